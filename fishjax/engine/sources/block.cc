// What follows a convolution, and its gradient, in two passes over the images: batch norm or a bias,
// a rectifier, and a 2x2 max-pool; handlers of XLA's foreign function interface.
//
// Images are NHWC, float32. Channels are the lanes of a vector, images are spread over threads, and
// sums are taken image by image and then in double, so that results do not depend on threads.

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "channels.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using Images = ffi::BufferR4<ffi::F32>;
using Channels = ffi::BufferR1<ffi::F32>;
using Scalar = ffi::BufferR0<ffi::F32>;

namespace {

constexpr double kEpsilon = 1e-5;

// z = x * gain + shift, the pre-activation.
struct Affine {
  std::vector<float> gain, shift;
};

Affine Standard(const float* mean, const float* variance, const float* scale, const float* bias,
                int64_t channels) {
  Affine affine{std::vector<float>(channels), std::vector<float>(channels)};
  for (int64_t c = 0; c < channels; ++c) {
    const double gain = scale[c] / std::sqrt(variance[c] + kEpsilon);
    affine.gain[c] = gain;
    affine.shift[c] = bias[c] - mean[c] * gain;
  }
  return affine;
}

Affine Biased(const float* bias, int64_t channels) {
  return {std::vector<float>(channels, 1.0f), std::vector<float>(bias, bias + channels)};
}

template <int V>
Vec<V> Rectify(Vec<V> z, float slope) {
  return z > 0 ? z : z * slope;
}

// The share of the gradient of max(a, b) that a gets: half where they are equal.
template <int V>
Vec<V> Share(Vec<V> a, Vec<V> b) {
  const Vec<V> none{}, half = none + 0.5f, whole = none + 1.0f;
  return a > b ? whole : (a == b ? half : none);
}

// The maximum of every window of 2x2 pixels; a last odd row or column is only activated.
template <int V, class Activated>
void Pool(const Size& size, const Activated& activated, float* to) {
  const int64_t pixel = size.channels, row = size.width * pixel;
  for (int64_t i = 0; i + 1 < size.height; i += 2) {
    for (int64_t j = 0; j + 1 < size.width; j += 2, to += pixel) {
      const int64_t at = i * row + j * pixel;
      const Vec<V> left = Max<V>(activated(at), activated(at + row));
      const Vec<V> right = Max<V>(activated(at + pixel), activated(at + row + pixel));
      Store<V>(to, Max<V>(left, right));
    }
    if (size.width % 2) {
      activated(i * row + row - pixel);
      activated(i * row + 2 * row - pixel);
    }
  }
  for (int64_t j = 0; size.height % 2 && j < size.width; ++j) {
    activated((size.height - 1) * row + j * pixel);
  }
}

// Every activation or, where `pool` says so, the maximum of every 2x2 window of them; and of every
// channel the largest magnitude of all.
void Activate(const float* x, const Size& size, const Affine& affine, float slope, bool pool,
              float* out, float* peak) {
  const int64_t pixel = size.channels, step = pool ? size.PooledImage() : size.Image();
  std::vector<float> peaks(size.batch * pixel);
#pragma omp parallel for schedule(static)
  for (int64_t n = 0; n < size.batch; ++n) {
    ForLanes(size.channels, [&](auto lanes, int64_t c) {
      constexpr int V = lanes;
      const Vec<V> gain = Load<V>(&affine.gain[c]), shift = Load<V>(&affine.shift[c]);
      const float* from = x + n * size.Image() + c;
      float* to = out + n * step + c;
      Vec<V> largest{};
      const auto activated = [&](int64_t offset) {
        const Vec<V> h = Rectify<V>(Load<V>(from + offset) * gain + shift, slope);
        largest = Max<V>(largest, h > 0 ? h : -h);
        return h;
      };
      if (pool) {
        Pool<V>(size, activated, to);
      } else {
        for (int64_t i = 0; i < size.Pixels(); ++i) Store<V>(to + i * pixel, activated(i * pixel));
      }
      Store<V>(&peaks[n * pixel + c], largest);
    });
  }
  std::fill_n(peak, pixel, 0.0f);
  for (size_t i = 0; i < peaks.size(); ++i) {
    float& most = peak[i % pixel];
    if (!(peaks[i] <= most)) most = peaks[i];
  }
}

// Calls visit(pixel offset, x, gradient of the pre-activation) for every pixel of V channels.
template <int V, class Visit>
void Gradients(const float* from, const float* gradient, const Size& size, Vec<V> gain,
               Vec<V> shift, float slope, bool pool, const Visit& visit) {
  const int64_t pixel = size.channels, row = size.width * pixel;
  const Vec<V> none{}, whole = none + 1.0f, leak = none + slope;
  const auto through = [&](Vec<V> z, Vec<V> g) { return g * (z > 0 ? whole : leak); };
  if (!pool) {
    for (int64_t i = 0; i < size.Pixels(); ++i) {
      const Vec<V> value = Load<V>(from + i * pixel);
      visit(i * pixel, value, through(value * gain + shift, Load<V>(gradient + i * pixel)));
    }
    return;
  }
  for (int64_t i = 0; i + 1 < size.height; i += 2) {
    for (int64_t j = 0; j + 1 < size.width; j += 2, gradient += pixel) {
      const int64_t at[4] = {i * row + j * pixel, i * row + row + j * pixel,
                             i * row + (j + 1) * pixel, i * row + row + (j + 1) * pixel};
      Vec<V> value[4], z[4], h[4];
      for (int k = 0; k < 4; ++k) {
        value[k] = Load<V>(from + at[k]);
        z[k] = value[k] * gain + shift;
        h[k] = Rectify<V>(z[k], slope);
      }
      const Vec<V> g = Load<V>(gradient);
      const Vec<V> up = Share<V>(h[0], h[1]), down = Share<V>(h[2], h[3]);
      const Vec<V> left = g * Share<V>(Max<V>(h[0], h[1]), Max<V>(h[2], h[3])), right = g - left;
      visit(at[0], value[0], through(z[0], left * up));
      visit(at[1], value[1], through(z[1], left * (whole - up)));
      visit(at[2], value[2], through(z[2], right * down));
      visit(at[3], value[3], through(z[3], right * (whole - down)));
    }
    if (size.width % 2) {
      for (int64_t at : {i * row + row - pixel, i * row + 2 * row - pixel}) {
        visit(at, Load<V>(from + at), none);
      }
    }
  }
  for (int64_t j = 0; size.height % 2 && j < size.width; ++j) {
    const int64_t at = (size.height - 1) * row + j * pixel;
    visit(at, Load<V>(from + at), none);
  }
}

struct Saved {
  const float *x, *scale, *bias, *mean, *variance;
  float slope;
};

// Gradients of images, scale and bias; `norm` is the closed form of Ioffe & Szegedy (2015).
void Backward(const Saved& saved, const float* gradient, const Size& size, bool norm, bool pool,
              float* dx, float* dscale, float* dbias) {
  const int64_t channels = size.channels, step = pool ? size.PooledImage() : size.Image();
  const Affine affine =
      norm ? Standard(saved.mean, saved.variance, saved.scale, saved.bias, channels)
           : Biased(saved.bias, channels);
  Sums sums(size);
  const auto each_image = [&](const auto& body) {
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < size.batch; ++n) {
      ForLanes(channels, [&](auto lanes, int64_t c) {
        constexpr int V = lanes;
        const auto gradients = [&](const auto& visit) {
          Gradients<V>(saved.x + n * size.Image() + c, gradient + n * step + c, size,
                       Load<V>(&affine.gain[c]), Load<V>(&affine.shift[c]), saved.slope, pool,
                       visit);
        };
        body(lanes, n, c, dx + n * size.Image() + c, gradients);
      });
    }
  };
  each_image([&](auto lanes, int64_t n, int64_t c, float* to, const auto& gradients) {
    constexpr int V = lanes;
    const Vec<V> mean = Load<V>(saved.mean + c);
    Vec<V> sum{}, product{};
    gradients([&](int64_t at, Vec<V> x, Vec<V> dz) {
      sum += dz;
      if (norm) {
        product += dz * (x - mean);
      } else {
        Store<V>(to + at, dz);
      }
    });
    Store<V>(sums.First(n) + c, sum);
    Store<V>(sums.Second(n) + c, product);
  });
  const double count = static_cast<double>(size.batch * size.Pixels());
  std::vector<float> offset(channels), slant(channels);
  for (int64_t c = 0; c < channels; ++c) {
    const double sum = sums.Total(0, c), inverse = 1 / std::sqrt(saved.variance[c] + kEpsilon);
    const double product = sums.Total(1, c) * inverse;
    dbias[c] = sum;
    dscale[c] = norm ? product : 0.0;
    offset[c] = sum / count;
    slant[c] = product * inverse / count;
  }
  if (!norm) return;
  each_image([&](auto lanes, int64_t, int64_t c, float* to, const auto& gradients) {
    constexpr int V = lanes;
    const Vec<V> mean = Load<V>(saved.mean + c), gain = Load<V>(&affine.gain[c]);
    const Vec<V> level = Load<V>(&offset[c]), tilt = Load<V>(&slant[c]);
    gradients([&](int64_t at, Vec<V> x, Vec<V> dz) {
      Store<V>(to + at, gain * (dz - level - (x - mean) * tilt));
    });
  });
}

Size SizeOf(const Images& images) {
  const auto d = images.dimensions();
  return {d[0], d[1], d[2], d[3]};
}

ffi::Error Forward(Images x, Channels scale, Channels bias, Scalar slope,
                   ffi::Result<Images> output, ffi::Result<Channels> peak,
                   ffi::Result<Channels> mean, ffi::Result<Channels> variance, bool norm,
                   bool pool, int64_t threads) {
  omp_set_num_threads(static_cast<int>(threads));
  const Size size = SizeOf(x);
  Affine affine;
  if (norm) {
    Moments(x.typed_data(), size, mean->typed_data(), variance->typed_data());
    affine = Standard(mean->typed_data(), variance->typed_data(), scale.typed_data(),
                      bias.typed_data(), size.channels);
  } else {
    std::fill_n(mean->typed_data(), size.channels, 0.0f);
    std::fill_n(variance->typed_data(), size.channels, 1.0f);
    affine = Biased(bias.typed_data(), size.channels);
  }
  Activate(x.typed_data(), size, affine, *slope.typed_data(), pool, output->typed_data(),
           peak->typed_data());
  return ffi::Error::Success();
}

ffi::Error Gradient(Images x, Channels scale, Channels bias, Scalar slope, Channels mean,
                    Channels variance, Images gradient, ffi::Result<Images> dx,
                    ffi::Result<Channels> dscale, ffi::Result<Channels> dbias, bool norm,
                    bool pool, int64_t threads) {
  omp_set_num_threads(static_cast<int>(threads));
  const Saved saved{x.typed_data(),    scale.typed_data(),    bias.typed_data(),
                    mean.typed_data(), variance.typed_data(), *slope.typed_data()};
  Backward(saved, gradient.typed_data(), SizeOf(x), norm, pool, dx->typed_data(),
           dscale->typed_data(), dbias->typed_data());
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(fishjax_block, Forward,
                              ffi::Ffi::Bind()
                                  .Arg<Images>()
                                  .Arg<Channels>()
                                  .Arg<Channels>()
                                  .Arg<Scalar>()
                                  .Ret<Images>()
                                  .Ret<Channels>()
                                  .Ret<Channels>()
                                  .Ret<Channels>()
                                  .Attr<bool>("norm")
                                  .Attr<bool>("pool")
                                  .Attr<int64_t>("threads"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(fishjax_block_gradient, Gradient,
                              ffi::Ffi::Bind()
                                  .Arg<Images>()
                                  .Arg<Channels>()
                                  .Arg<Channels>()
                                  .Arg<Scalar>()
                                  .Arg<Channels>()
                                  .Arg<Channels>()
                                  .Arg<Images>()
                                  .Ret<Images>()
                                  .Ret<Channels>()
                                  .Ret<Channels>()
                                  .Attr<bool>("norm")
                                  .Attr<bool>("pool")
                                  .Attr<int64_t>("threads"));
