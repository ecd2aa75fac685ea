// Images whose channels are the lanes of a vector, and each channel's sums and moments.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace {

#ifdef __AVX512F__
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif

template <int V>
struct Lane {
  typedef float type __attribute__((vector_size(V * sizeof(float))));
};
template <int V>
using Vec = typename Lane<V>::type;

template <int V>
Vec<V> Load(const float* from) {
  Vec<V> value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

template <int V>
void Store(float* to, Vec<V> value) {
  std::memcpy(to, &value, sizeof(value));
}

template <int V>
Vec<V> Max(Vec<V> a, Vec<V> b) {
  return a > b ? a : (a == a ? b : a);  // NaN wins
}

struct Size {
  int64_t batch, height, width, channels;
  int64_t Pixels() const { return height * width; }
  int64_t Image() const { return Pixels() * channels; }
  int64_t PooledImage() const { return (height / 2) * (width / 2) * channels; }
};

// Calls body(lanes, first channel) for groups of kLanes to 1 channels that cover them all.
template <class Body>
void ForLanes(int64_t channels, const Body& body) {
  int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) body(std::integral_constant<int, kLanes>(), c);
  if (c + 8 <= channels) body(std::integral_constant<int, 8>(), c), c += 8;
  if (c + 4 <= channels) body(std::integral_constant<int, 4>(), c), c += 4;
  if (c + 2 <= channels) body(std::integral_constant<int, 2>(), c), c += 2;
  if (c < channels) body(std::integral_constant<int, 1>(), c);
}

// Two values per channel for each image, added up in double.
class Sums {
 public:
  explicit Sums(const Size& size) : channels_(size.channels), parts_(size.batch * size.channels * 2) {}
  float* First(int64_t image) { return parts_.data() + image * channels_ * 2; }
  float* Second(int64_t image) { return First(image) + channels_; }
  double Total(int64_t which, int64_t channel) const {
    double total = 0;
    for (size_t i = which * channels_ + channel; i < parts_.size(); i += channels_ * 2) {
      total += parts_[i];
    }
    return total;
  }

 private:
  int64_t channels_;
  std::vector<float> parts_;
};

// Mean and biased variance of every channel, about its first pixel, which keeps the sums small.
void Moments(const float* x, const Size& size, float* mean, float* variance) {
  Sums sums(size);
#pragma omp parallel for schedule(static)
  for (int64_t n = 0; n < size.batch; ++n) {
    ForLanes(size.channels, [&](auto lanes, int64_t c) {
      constexpr int V = lanes;
      const float* at = x + n * size.Image() + c;
      const Vec<V> origin = Load<V>(x + c);
      Vec<V> sum{}, squares{};
      for (int64_t i = 0; i < size.Pixels(); ++i, at += size.channels) {
        const Vec<V> apart = Load<V>(at) - origin;
        sum += apart;
        squares += apart * apart;
      }
      Store<V>(sums.First(n) + c, sum);
      Store<V>(sums.Second(n) + c, squares);
    });
  }
  const double count = static_cast<double>(size.batch * size.Pixels());
  for (int64_t c = 0; c < size.channels; ++c) {
    const double apart = sums.Total(0, c) / count;
    mean[c] = x[c] + apart;
    variance[c] = std::max(0.0, sums.Total(1, c) / count - apart * apart);
  }
}

}  // namespace
