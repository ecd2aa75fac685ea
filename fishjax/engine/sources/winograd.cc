// 3x3 convolutions of stride 1 and their gradients with a quarter of the products, by Winograd's
// F(4x4, 3x3) and F(3x3, 4x4), as handlers of XLA's foreign function interface.
//
// Images and output gradients are NHWC, kernels HWIO, float32, channels in vectors of 16. Tiles are
// worked on in blocks that a cache holds; sums do not depend on threads.

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <new>
#include <vector>

#include "tiles.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using Buffer = ffi::BufferR4<ffi::F32>;
using Result = ffi::Result<Buffer>;

namespace {

constexpr int64_t kWidest = 4096;  // channels

// The window at a place, at all points; those below it, which come soon, are fetched meanwhile.
template <class Kind>
void Spread(const Images& images, int64_t image, int64_t row, int64_t column, const Matrices& to,
            int64_t place) {
  static float zeros[kWidest];
  constexpr int N = Kind::kFrom;
  const Window<N> window(images, image, row, column, zeros);
  const float* below = images.At(image, row + N, column + (N - kTile) / 2);
  for (int64_t c = 0; c < images.channels; c += kLanes) {
#pragma GCC unroll 16
    for (int k = 0; k < kTile * kTile; ++k) {
      const int64_t pixel = k / kTile * images.width + k % kTile;
      __builtin_prefetch(below + pixel * images.channels + c, 0, 2);
    }
    Square<kPatch> made;
    Transform<Kind>([&](int i, int j) { return Load(window.at[i][j] + c); }, made);
    to.Scatter(made, place, c);
  }
}

void Collect(const Matrices& from, int64_t place, const Images& output, int64_t image,
             int64_t row, int64_t column) {
  static thread_local float sink[kWidest];
  const Window<kTile> window(output, image, row, column, sink);
  for (int64_t c = 0; c < output.channels; c += kLanes) {
    Square<kTile> made;
    Transform<Back<kTile>>(from.Gather(place, c), made);
#pragma GCC unroll 16
    for (int k = 0; k < kTile * kTile; ++k) {
      Store(window.at[k / kTile][k % kTile] + c, made[k / kTile][k % kTile]);
    }
  }
}

// Tiles to a block, a multiple of kRows: half a second-level cache, or enough to use a kernel.
int64_t BlockOf(int64_t channels) {
  const int64_t fit = (640 << 10) / (kPoints * channels * sizeof(float)) / kRows * kRows;
  return std::clamp<int64_t>(fit, 32, 96);
}

// The kernel at all points, `[in, out]` at each.
Matrices Spread(std::vector<Vec>& memory, const float* kernel, int64_t in, int64_t out) {
  const Matrices made(memory, in, out);
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < in; ++row) {
    for (int64_t c = 0; c < out; c += kLanes) {
      const float* from = kernel + row * out + c;
      Square<kPatch> points;
      Transform<Filter<kKernel>>(
          [&](int i, int j) { return Load(from + (i * kKernel + j) * in * out); }, points);
      made.Scatter(points, row, c);
    }
  }
  return made;
}

void Forward(const Images& images, const float* kernel, const Images& output, int64_t top,
             int64_t left) {
  static thread_local std::vector<Vec> memory;
  const Matrices kernels = Spread(memory, kernel, images.channels, output.channels);
  const Tiles tiles(output);
  const int64_t block = BlockOf(images.channels + output.channels);
#pragma omp parallel for schedule(static)
  for (int64_t first = 0; first < tiles.count; first += block) {
    static thread_local std::vector<Vec> source_memory, target_memory;
    const Matrices source(source_memory, block, images.channels);
    const Matrices target(target_memory, block, output.channels);
    const int64_t count = std::min(block, tiles.count - first);
    for (int64_t t = 0, tile = first; t < count; ++t, ++tile) {
      Spread<Patch>(images, tiles.Image(tile), tiles.Row(tile) - top, tiles.Column(tile) - left,
                    source, t);
    }
    const int64_t rows = (count + kRows - 1) / kRows * kRows;
    for (int k = 0; k < kPoints; ++k) {
      Product(source, false, kernels, target, k, rows, images.channels, output.channels, false);
    }
    for (int64_t t = 0, tile = first; t < count; ++t, ++tile) {
      Collect(target, t, output, tiles.Image(tile), tiles.Row(tile), tiles.Column(tile));
    }
  }
}

// A convolution of the gradient with the kernel turned round, its channels exchanged.
void InputGradient(const Images& gradient, const float* kernel, const Images& images, int64_t top,
                   int64_t left) {
  static thread_local std::vector<float> turned;
  const int64_t in = images.channels, out = gradient.channels;
  turned.resize(kTaps * in * out);
  for (int64_t tap = 0; tap < kTaps; ++tap) {
    const float* from = kernel + (kTaps - 1 - tap) * in * out;
    float* to = turned.data() + tap * in * out;
    for (int64_t o = 0; o < out; ++o) {
      for (int64_t i = 0; i < in; ++i) to[o * in + i] = from[i * out + o];
    }
  }
  Forward(gradient, turned.data(), images, kKernel - 1 - top, kKernel - 1 - left);
}

void KernelGradient(const Images& images, const Images& gradient, float* kernel, int64_t top,
                    int64_t left) {
  static thread_local std::vector<Vec> image_memory, gradient_memory, sum_memory;
  const int64_t in = images.channels, out = gradient.channels, block = BlockOf(in + out);
  const Tiles tiles(gradient);
  const Matrices source(image_memory, block, in), target(gradient_memory, block, out);
  const Matrices sums(sum_memory, in, out);
#pragma omp parallel
  {
    for (int64_t first = 0; first < tiles.count; first += block) {
      const int64_t count = std::min(block, tiles.count - first);
#pragma omp for schedule(static)
      for (int64_t t = 0; t < count; ++t) {
        const int64_t tile = first + t, image = tiles.Image(tile);
        const int64_t row = tiles.Row(tile), column = tiles.Column(tile);
        Spread<Patch>(images, image, row - top, column - left, source, t);
        Spread<Filter<kTile>>(gradient, image, row, column, target, t);
      }
#pragma omp for schedule(static)
      for (int k = 0; k < kPoints; ++k) {
        Product(source, true, target, sums, k, in, count, out, first > 0);
      }
    }
#pragma omp for schedule(static)
    for (int64_t row = 0; row < in; ++row) {
      for (int64_t c = 0; c < out; c += kLanes) {
        Square<kKernel> made;
        Transform<Back<kKernel>>(sums.Gather(row, c), made);
        for (int k = 0; k < kTaps; ++k) {
          Store(kernel + (k * in + row) * out + c, made[k / kKernel][k % kKernel]);
        }
      }
    }
  }
}

Images ImagesOf(Buffer buffer) {
  const auto d = buffer.dimensions();
  return {buffer.typed_data(), d[0], d[1], d[2], d[3]};
}

// Whether these are the images, kernel and output of a convolution that can be computed here.
bool Agree(const Images& x, Buffer kernel, const Images& y, int64_t top, int64_t left) {
  const auto w = kernel.dimensions();
  const auto fits = [](int64_t size, int64_t made, int64_t before) {
    const int64_t after = made + kKernel - 1 - size - before;
    return size > 0 && made > 0 && before >= 0 && before < kKernel && after >= 0 &&
           after < kKernel;
  };
  const auto whole = [](int64_t channels) {
    return channels > 0 && channels <= kWidest && channels % kChannels == 0;
  };
  return w[0] == kKernel && w[1] == kKernel && w[2] == x.channels && w[3] == y.channels &&
         whole(w[2]) && whole(w[3]) && x.batch > 0 && x.batch == y.batch &&
         fits(x.height, y.height, top) && fits(x.width, y.width, left);
}

template <class Work>
ffi::Error Run(Buffer images, Buffer kernel, Buffer output, int64_t stride, int64_t top,
               int64_t left, int64_t threads, const Work& work) {
  const Images x = ImagesOf(images), y = ImagesOf(output);
  if (stride != 1 || threads < 1 || threads > 1024 || !Agree(x, kernel, y, top, left)) {
    return ffi::Error::InvalidArgument("the sizes of images, kernel and output do not agree");
  }
  omp_set_num_threads(static_cast<int>(threads));
  try {
    work(x, kernel.typed_data(), y);
  } catch (const std::bad_alloc& error) {
    return ffi::Error::Internal(error.what());
  }
  return ffi::Error::Success();
}

ffi::Error ForwardCall(Buffer images, Buffer kernel, Result output, int64_t stride, int64_t top,
                       int64_t left, int64_t threads) {
  return Run(images, kernel, *output, stride, top, left, threads,
             [&](auto& x, auto* w, auto& y) { Forward(x, w, y, top, left); });
}

ffi::Error InputGradientCall(Buffer gradient, Buffer kernel, Result images, int64_t stride,
                             int64_t top, int64_t left, int64_t threads) {
  return Run(*images, kernel, gradient, stride, top, left, threads,
             [&](auto& x, auto* w, auto& y) { InputGradient(y, w, x, top, left); });
}

ffi::Error KernelGradientCall(Buffer images, Buffer gradient, Result kernel, int64_t stride,
                              int64_t top, int64_t left, int64_t threads) {
  return Run(images, *kernel, gradient, stride, top, left, threads,
             [&](auto& x, auto* w, auto& y) { KernelGradient(x, y, w, top, left); });
}

auto Binding() {
  return ffi::Ffi::Bind()
      .Arg<Buffer>()
      .Arg<Buffer>()
      .Ret<Buffer>()
      .Attr<int64_t>("stride")
      .Attr<int64_t>("top")
      .Attr<int64_t>("left")
      .Attr<int64_t>("threads");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(fishjax_winograd, ForwardCall, Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(fishjax_winograd_input_gradient, InputGradientCall, Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(fishjax_winograd_kernel_gradient, KernelGradientCall, Binding());
