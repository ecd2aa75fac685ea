// 3x3 convolutions of stride 1 and their gradients with a quarter of the products, by Winograd's
// F(4x4, 3x3) and F(3x3, 4x4), as handlers of XLA's foreign function interface.
//
// Lavin & Gray (2016); the points 0, +-2/3, +-3/2 and infinity round less than whole numbers do
// (Barabasz et al. 2020). Images and output gradients are NHWC, kernels HWIO, float32, channels in
// vectors of 16. Tiles are worked on in blocks that a cache holds; sums do not depend on threads.

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using Buffer = ffi::BufferR4<ffi::F32>;
using Result = ffi::Result<Buffer>;

namespace {

constexpr int kLanes = 16, kKernel = 3, kTile = 4, kPatch = kTile + kKernel - 1;
constexpr int kPoints = kPatch * kPatch, kTaps = kKernel * kKernel;
constexpr int64_t kWidest = 4096;  // channels
#ifdef __AVX512F__
constexpr int kRows = 8;
#else
constexpr int kRows = 2;
#endif

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));
template <int N>
using Square = Vec[N][N];

Vec Load(const float* from) {
  Vec value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

void Store(float* to, Vec value) { std::memcpy(to, &value, sizeof(value)); }

// The points, their squares, and the reciprocals of what their filters are divided by.
constexpr float kP = 2.0f / 3, kQ = 3.0f / 2, kPP = kP * kP, kQQ = kQ * kQ;
constexpr float kOverP = 1 / (2 * kPP * (kPP - kQQ)), kOverQ = 1 / (2 * kQQ * (kQQ - kPP));

// The even and odd parts at +-p and +-q, put together.
void Join(Vec p, Vec p_odd, Vec q, Vec q_odd, Vec* to) {
  to[1] = p + p_odd, to[2] = p - p_odd;
  to[3] = q + q_odd, to[4] = q - q_odd;
}

// To the points, from a patch of the images.
struct Patch {
  static constexpr int kFrom = kPatch, kTo = kPatch;
  static void Once(const Vec* d, Vec* to) {
    to[0] = d[0] + d[4] - (kPP + kQQ) * d[2];
    Join(d[4] - kQQ * d[2], kP * d[3] - kQ * d[1], d[4] - kPP * d[2], kQ * d[3] - kP * d[1], to);
    to[5] = d[1] + d[5] - (kPP + kQQ) * d[3];
  }
};

// To the points, from a filter of N: the kernel or, for the kernel's gradient, a tile.
template <int N>
struct Filter {
  static constexpr int kFrom = N, kTo = kPatch;
  static void Once(const Vec* g, Vec* to) {
    const Vec none{}, last = N == kTile ? g[N - 1] : none;
    to[0] = g[0];
    Join(kOverP * (g[0] + kPP * g[2]), kOverP * kP * (g[1] + kPP * last),
         kOverQ * (g[0] + kQQ * g[2]), kOverQ * kQ * (g[1] + kQQ * last), to);
    to[5] = g[N - 1];
  }
};

// Back from the points, to a tile of the output or to the kernel's gradient.
template <int N>
struct Back {
  static constexpr int kFrom = kPatch, kTo = N;
  static void Once(const Vec* m, Vec* to) {
    const Vec p = m[1] + m[2], p_odd = kP * (m[1] - m[2]);
    const Vec q = m[3] + m[4], q_odd = kQ * (m[3] - m[4]);
    to[0] = m[0] + p + q;
    to[1] = p_odd + q_odd;
    to[2] = kPP * p + kQQ * q;
    if constexpr (N == kTile) to[3] = kPP * p_odd + kQQ * q_odd;
    to[N - 1] += m[5];
  }
};

// A transform along both dimensions of from(i, j), row and column.
template <class Kind, class From>
void Transform(const From& from, Square<Kind::kTo>& to) {
  Vec half[Kind::kTo][Kind::kFrom];
#pragma GCC unroll 8
  for (int j = 0; j < Kind::kFrom; ++j) {
    Vec column[Kind::kFrom], made[Kind::kTo];
#pragma GCC unroll 8
    for (int i = 0; i < Kind::kFrom; ++i) column[i] = from(i, j);
    Kind::Once(column, made);
#pragma GCC unroll 8
    for (int i = 0; i < Kind::kTo; ++i) half[i][j] = made[i];
  }
#pragma GCC unroll 8
  for (int i = 0; i < Kind::kTo; ++i) Kind::Once(half[i], to[i]);
}

struct Images {
  float* data;
  int64_t batch, height, width, channels;
  float* At(int64_t image, int64_t row, int64_t column) const {
    return data + ((image * height + row) * width + column) * channels;
  }
};

// The tiles of an output, row after row and image after image.
struct Tiles {
  int64_t down, across, count;
  explicit Tiles(const Images& output)
      : down((output.height + kTile - 1) / kTile),
        across((output.width + kTile - 1) / kTile),
        count(output.batch * down * across) {}
  int64_t Image(int64_t tile) const { return tile / (down * across); }
  int64_t Row(int64_t tile) const { return tile / across % down * kTile; }
  int64_t Column(int64_t tile) const { return tile % across * kTile; }
};

// N x N pixels from a place on; those that are not in the image are `beyond`.
template <int N>
struct Window {
  float* at[N][N];
  Window(const Images& images, int64_t image, int64_t row, int64_t column, float* beyond) {
    for (int i = 0; i < N; ++i) {
      const bool inside = row + i >= 0 && row + i < images.height;
      float* pixel = images.At(image, row + i, column);
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j, pixel += images.channels) {
        at[i][j] = inside && column + j >= 0 && column + j < images.width ? pixel : beyond;
      }
    }
  }
};

// A matrix for every point; odd numbers of cache lines lie between rows and between points.
class Matrices {
 public:
  Matrices(std::vector<Vec>& memory, int64_t rows, int64_t columns)
      : stride_((columns / kLanes | 1) * kLanes), step_((rows * stride_ / kLanes | 1) * kLanes) {
    memory.resize(std::max<size_t>(memory.size(), kPoints * step_ / kLanes));
    data_ = reinterpret_cast<float*>(memory.data());
  }
  int64_t Stride() const { return stride_; }
  float* At(int point, int64_t row, int64_t column) const {
    return data_ + point * step_ + row * stride_ + column;
  }
  // One vector at all points.
  void Scatter(const Square<kPatch>& from, int64_t row, int64_t column) const {
    float* to = At(0, row, column);
    const int64_t step = step_;
#pragma GCC unroll 36
    for (int k = 0; k < kPoints; ++k, to += step) Store(to, from[k / kPatch][k % kPatch]);
  }
  auto Gather(int64_t row, int64_t column) const {
    return [from = At(0, row, column), step = step_](int i, int j) {
      return Load(from + (i * kPatch + j) * step);
    };
  }

 private:
  int64_t stride_, step_;
  float* data_;
};

// c[r][j] = or += the sum over k of a[r * by_row + k * by_depth] * b[k][j], of N vectors.
template <int N>
void Multiply(const float* a, int64_t by_row, int64_t by_depth, const float* b, int64_t b_stride,
              float* c, int64_t c_stride, int64_t depth, bool add) {
  Vec sum[kRows][N];
#pragma GCC unroll 16
  for (int i = 0; i < kRows * N; ++i) {
    sum[i / N][i % N] = add ? Load(c + i / N * c_stride + i % N * kLanes) : Vec{};
  }
  for (int64_t k = 0; k < depth; ++k, a += by_depth, b += b_stride) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows * N; ++i) {
      sum[i / N][i % N] += a[i / N * by_row] * Load(b + i % N * kLanes);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows * N; ++i) Store(c + i / N * c_stride + i % N * kLanes, sum[i / N][i % N]);
}

// The product of a, or of its transpose, and b at one point; rows are whole multiples of kRows.
void Product(const Matrices& a, bool transposed, const Matrices& b, const Matrices& c, int point,
             int64_t rows, int64_t depth, int64_t columns, bool add) {
  for (int64_t j = 0; j < columns; j += 2 * kLanes) {
    const auto multiply = j + kLanes < columns ? Multiply<2> : Multiply<1>;
    for (int64_t r = 0; r < rows; r += kRows) {
      const float* from = transposed ? a.At(point, 0, r) : a.At(point, r, 0);
      multiply(from, transposed ? 1 : a.Stride(), transposed ? a.Stride() : 1,
               b.At(point, 0, j), b.Stride(), c.At(point, r, j), c.Stride(), depth, add);
    }
  }
}

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
    return channels > 0 && channels <= kWidest && channels % kLanes == 0;
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
