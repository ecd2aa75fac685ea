// What Winograd's convolutions are made of: tiles, their transforms, and products at every point.
//
// Lavin & Gray (2016); the points 0, +-2/3, +-3/2 and infinity round less than whole numbers do
// (Barabasz et al. 2020). Images are NHWC, float32, channels in groups of 16.
// A vector is a register of the machine, in which kRows times two of them are summed.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int kKernel = 3, kTile = 4, kPatch = kTile + kKernel - 1;
constexpr int kPoints = kPatch * kPatch, kTaps = kKernel * kKernel, kChannels = 16;
#ifdef __AVX512F__
constexpr int kLanes = 16, kRows = 8;
#else
constexpr int kLanes = 8, kRows = 4;
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

// c[r][j] = or += the sum over k, added up apart, of a[r * by_row + k * by_depth] * b[k][j], of N vectors.
template <int N>
void Multiply(const float* a, int64_t by_row, int64_t by_depth, const float* b, int64_t b_stride,
              float* c, int64_t c_stride, int64_t depth, bool add) {
  Vec sum[kRows][N];
#pragma GCC unroll 16
  for (int i = 0; i < kRows * N; ++i) sum[i / N][i % N] = Vec{};
  for (int64_t k = 0; k < depth; ++k, a += by_depth, b += b_stride) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows * N; ++i) {
      sum[i / N][i % N] += a[i / N * by_row] * Load(b + i % N * kLanes);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows * N; ++i) {
    float* to = c + i / N * c_stride + i % N * kLanes;
    Store(to, add ? Load(to) + sum[i / N][i % N] : sum[i / N][i % N]);
  }
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

}  // namespace
