// Threshold attention on a CPU, in two calls: the scores of all keys, and the
// value rows that somebody keeps. `native.py` compiles and loads this file;
// vectors are the compiler's business, threads are XLA's.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;

constexpr int64_t kBlock = 256;  // slots that go together: scores stay in L1
constexpr int64_t kShares = 32;  // most parts of a row, whatever its length
constexpr int32_t kAhead = 8;  // lines asked for before they are read
constexpr float kNone = -std::numeric_limits<float>::infinity();

inline float AsFloat(float x) { return x; }
inline float AsFloat(uint16_t x) {  // bfloat16
  uint32_t bits = static_cast<uint32_t>(x) << 16;
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}

// Of x <= 0 with a relative error of 2e-7; below -87 it stays at 1e-38.
inline float Exp(float x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23 rounds to an integer
  x = std::max(x, -87.0f);
  float shifted = x * 1.44269504f + kShift;
  float n = shifted - kShift;
  float f = x - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * f + 1.3981999507e-3f;
  p = p * f + 8.3334519073e-3f;
  p = p * f + 4.1665795894e-2f;
  p = p * f + 1.6666665459e-1f;
  p = p * f + 5.0000001201e-1f;
  p = p * f * f + f + 1.0f;
  uint32_t bits;
  std::memcpy(&bits, &shifted, 4);
  bits = (bits << 23) + 0x3f800000u;
  float power;
  std::memcpy(&power, &bits, 4);
  return p * power;
}

struct Sizes {
  int64_t batch, queries, heads, width, kv_heads, size, pages;
  int64_t group() const { return heads / kv_heads; }
  int64_t slots() const { return pages * size; }
  int64_t rows() const { return queries * heads; }
  // Row of scores of the r-th of the queries that share a key-value head.
  int64_t row(int64_t kv_head, int64_t r) const {
    return r / group() * heads + kv_head * group() + r % group();
  }
  int64_t shared() const { return queries * group(); }
  int32_t seen(int32_t length, int64_t row) const {
    return std::max<int64_t>(length - (queries - 1 - row / heads), 0);
  }
};

// Calls body(part) once for each part, on this thread and those of the pool
// that come to help. It waits for parts that a helper began, never for helpers,
// so a busy pool costs time but cannot block.
template <typename Body>
void ForEach(ffi::ThreadPool& pool, int64_t parts, const Body& body) {
  struct State {
    std::atomic<int64_t> next{0}, done{0};
  };
  auto state = std::make_shared<State>();
  auto work = [state, parts, &body] {
    int64_t part;
    while ((part = state->next.fetch_add(1)) < parts) {
      body(part);
      state->done.fetch_add(1, std::memory_order_release);
    }
  };
  int64_t helpers = std::min(pool.num_threads(), parts) - 1;
  for (int64_t i = 0; i < helpers; ++i) {
    auto help = work;
    pool.Schedule(std::move(help));
  }
  work();
  while (state->done.load(std::memory_order_acquire) < parts) {
    std::this_thread::yield();
  }
}

// Slots of each part of a row; there may be fewer than kShares parts.
int64_t PartSlots(int32_t length) {
  return (length / kShares / kBlock + 1) * kBlock;
}

// Calls body(first slot, page, offset in it, slots) along one part of a row.
template <typename Body>
void ForRuns(const Sizes& at, int32_t length, const int32_t* table,
             int64_t part, const Body& body) {
  int64_t step = PartSlots(length);
  int64_t end = std::min<int64_t>((part + 1) * step, length);
  for (int64_t slot = part * step; slot < end;) {
    int64_t offset = slot % at.size;
    int64_t n = std::min({kBlock, at.size - offset, end - slot});
    body(slot, table[slot / at.size], offset, n);
    slot += n;
  }
}

// Asks for a line of n numbers that will be read soon.
template <typename T>
inline void Prefetch(const T* line, int64_t n) {
  for (int64_t t = 0; t < n; t += 64 / sizeof(T)) __builtin_prefetch(line + t);
}

// out[t] (+)= sum of four q[i] * keys[i][t]
template <typename T>
inline void AddFour(const float* q, const T* __restrict keys, int64_t stride,
                    int64_t n, bool first, float* __restrict out) {
  const T *k0 = keys, *k1 = k0 + stride, *k2 = k1 + stride, *k3 = k2 + stride;
  float q0 = q[0], q1 = q[1], q2 = q[2], q3 = q[3];
  if (first) std::fill(out, out + n, 0.0f);
  for (int64_t t = 0; t < n; ++t) {
    out[t] += q0 * AsFloat(k0[t]) + q1 * AsFloat(k1[t]) +
              (q2 * AsFloat(k2[t]) + q3 * AsFloat(k3[t]));
  }
}

// The highest of scores[from] to scores[to - 1], and of now.
inline float Highest(const float* scores, int64_t from, int64_t to, float now) {
#pragma omp simd reduction(max : now)
  for (int64_t t = from; t < to; ++t) now = scores[t] > now ? scores[t] : now;
  return now;
}

template <typename T>
void Score(ffi::ThreadPool& pool, const Sizes& at, const T* q, const T* keys,
           const int32_t* table, const int32_t* lengths, float scale,
           float* scores, float* highest, float* lse) {
  std::vector<float> tops(at.batch * kShares * at.rows(), kNone);
  std::vector<float> sums(tops.size(), 0.0f);
  ForEach(pool, at.batch * kShares, [&](int64_t index) {
    int64_t b = index / kShares;
    if (index % kShares * PartSlots(lengths[b]) >= lengths[b]) return;
    std::vector<float> queries(at.rows() * at.width);
    for (size_t i = 0; i < queries.size(); ++i) {
      queries[i] = AsFloat(q[b * queries.size() + i]);
    }
    // Rows of scores lie powers of two apart: they would share cache sets.
    std::vector<float> sums_of(at.shared() * kBlock);
    auto run = [&](int64_t slot, int64_t page, int64_t offset, int64_t n) {
      for (int64_t k = 0; k < at.kv_heads; ++k) {
        const T* from =
            keys + (page * at.kv_heads + k) * at.width * at.size + offset;
        for (int64_t d = 0; d < at.width; d += 4) {
          const T* lines = from + d * at.size;
          for (int64_t ahead = kAhead; ahead < kAhead + 4; ++ahead) {
            Prefetch(lines + ahead * at.size, n);
          }
          for (int64_t r = 0; r < at.shared(); ++r) {
            const float* four = queries.data() + at.row(k, r) * at.width + d;
            AddFour(four, lines, at.size, n, d == 0,
                    sums_of.data() + r * kBlock);
          }
        }
        for (int64_t r = 0; r < at.shared(); ++r) {
          int64_t row = at.row(k, r);
          const float* from = sums_of.data() + r * kBlock;
          float* out = scores + (b * at.rows() + row) * at.slots() + slot;
          int64_t seen = std::min<int64_t>(at.seen(lengths[b], row) - slot, n);
          float& top = tops[index * at.rows() + row];
          float& sum = sums[index * at.rows() + row];
          float more = 0.0f;
#pragma omp simd
          for (int64_t t = 0; t < n; ++t) out[t] = from[t] * scale;
          float now = Highest(out, 0, seen, top);
#pragma omp simd reduction(+ : more)
          for (int64_t t = 0; t < seen; ++t) more += Exp(out[t] - now);
          if (seen > 0) sum = sum * Exp(top - now) + more;
          top = now;
        }
      }
    };
    ForRuns(at, lengths[b], table + b * at.pages, index % kShares, run);
  });
  for (int64_t i = 0; i < at.batch * at.rows(); ++i) {
    int64_t b = i / at.rows(), row = i % at.rows();
    float top = kNone, sum = 0.0f;
    for (int64_t part = 0; part < kShares; ++part) {
      top = std::max(top, tops[(b * kShares + part) * at.rows() + row]);
    }
    for (int64_t part = 0; part < kShares; ++part) {
      int64_t from = (b * kShares + part) * at.rows() + row;
      if (sums[from] != 0) sum += sums[from] * std::exp(tops[from] - top);
    }
    highest[i] = top;
    lse[i] = sum == 0 ? kNone : top + std::log(sum);  // NaN stays NaN
  }
}

// What weights of a row are relative to: the log-sum-exp. Where scores keep
// nothing, those kept by position may all lie far below it: their highest.
float Base(const Sizes& at, int64_t row, const float* scores, int32_t length,
           float least, float lse, int64_t window, int64_t sinks) {
  if (least < -kNone) return lse;
  int64_t seen = at.seen(length, row);
  float top = Highest(scores, 0, std::min(sinks, seen), kNone);
  top = Highest(scores, std::max<int64_t>(window, 0), seen, top);
  return top > kNone ? top : 0.0f;
}

// What one part of a row kept.
struct Part {
  Part(const Sizes& at)
      : out(at.rows() * at.width), mass(at.rows()), kept(at.rows()),
        loaded(at.kv_heads) {}
  std::vector<float> out, mass;
  std::vector<int32_t> kept, loaded;
};

template <typename T>
void Gather(ffi::ThreadPool& pool, const Sizes& at, const float* scores,
            const T* values, const int32_t* table, const int32_t* lengths,
            const float* least, const float* lse, const int32_t* window,
            int64_t sinks, float* out, int32_t* kept, float* mass,
            int32_t* loaded) {
  std::vector<float> bases(at.batch * at.rows());
  for (size_t i = 0; i < bases.size(); ++i) {
    int64_t b = i / at.rows(), row = i % at.rows();
    bases[i] = Base(at, row, scores + i * at.slots(), lengths[b], least[i],
                    lse[i], window[b * at.queries + row / at.heads], sinks);
  }
  std::vector<std::unique_ptr<Part>> parts(at.batch * kShares);
  ForEach(pool, parts.size(), [&](int64_t index) {
    int64_t b = index / kShares;
    if (index % kShares * PartSlots(lengths[b]) >= lengths[b]) return;
    parts[index] = std::make_unique<Part>(at);
    Part& part = *parts[index];
    std::vector<float> weights(at.shared() * kBlock);
    auto run = [&](int64_t slot, int64_t page, int64_t offset, int64_t n) {
      for (int64_t k = 0; k < at.kv_heads; ++k) {
        uint8_t needed[kBlock] = {};
        int32_t chosen[kBlock + 3];
        for (int64_t r = 0; r < at.shared(); ++r) {
          int64_t row = at.row(k, r), i = b * at.rows() + row;
          int32_t seen = std::min<int64_t>(at.seen(lengths[b], row) - slot, n);
          int32_t sink = std::clamp<int64_t>(sinks - slot, 0, n);
          int32_t newest = std::clamp<int64_t>(
              int64_t{window[b * at.queries + row / at.heads]} - slot, 0, n);
          const float* from = scores + i * at.slots() + slot;
          float* weight = weights.data() + r * kBlock;
          float total = 0.0f, bar = least[i], base = bases[i];
          int32_t count = 0;
#pragma omp simd reduction(+ : total, count)
          for (int32_t t = 0; t < static_cast<int32_t>(n); ++t) {
            bool keep = (t < seen) & ((from[t] >= bar) | (t < sink) |
                                      (t >= newest));
            float w = keep ? Exp(from[t] - base) : 0.0f;
            weight[t] = w;
            needed[t] |= keep;
            total += w;
            count += keep;
          }
          part.mass[row] += total;
          part.kept[row] += count;
        }
        int32_t count = 0;
        for (int32_t t = 0; t < n; ++t) {
          chosen[count] = t;
          count += needed[t];
        }
        part.loaded[k] += count;
        int32_t four = (count + 3) / 4 * 4;
        for (int32_t j = count; j < four; ++j) chosen[j] = chosen[count - 1];
        const T* rows = values +
            ((page * at.kv_heads + k) * at.size + offset) * at.width;
        for (int32_t j = 0; j < four; j += 4) {
          int32_t slots[4];
          const T* v[4];
          float real[4];  // rows that only fill up the four weigh nothing
          for (int i = 0; i < 4; ++i) {
            slots[i] = chosen[j + i];
            v[i] = rows + slots[i] * at.width;
            real[i] = j + i < count ? 1.0f : 0.0f;
            int32_t ahead = std::min(j + i + kAhead, count - 1);
            Prefetch(rows + chosen[ahead] * at.width, at.width);
          }
          for (int64_t r = 0; r < at.shared(); ++r) {
            const float* weight = weights.data() + r * kBlock;
            float w[4];
            for (int i = 0; i < 4; ++i) w[i] = weight[slots[i]] * real[i];
            float* sum = part.out.data() + at.row(k, r) * at.width;
#pragma omp simd
            for (int64_t d = 0; d < at.width; ++d) {
              sum[d] += w[0] * AsFloat(v[0][d]) + w[1] * AsFloat(v[1][d]) +
                        (w[2] * AsFloat(v[2][d]) + w[3] * AsFloat(v[3][d]));
            }
          }
        }
      }
    };
    ForRuns(at, lengths[b], table + b * at.pages, index % kShares, run);
  });
  for (int64_t b = 0; b < at.batch; ++b) {
    Part total(at);
    for (int64_t p = b * kShares; p < (b + 1) * kShares; ++p) {
      if (!parts[p]) continue;
      const Part& part = *parts[p];
      auto add = [](auto& to, const auto& from) {
        for (size_t i = 0; i < to.size(); ++i) to[i] += from[i];
      };
      add(total.out, part.out);
      add(total.mass, part.mass);
      add(total.kept, part.kept);
      add(total.loaded, part.loaded);
    }
    for (size_t i = 0; i < total.out.size(); ++i) {
      float share = total.mass[i / at.width];
      out[b * total.out.size() + i] = total.out[i] / (share > 0 ? share : 1);
    }
    for (int64_t row = 0; row < at.rows(); ++row) {
      int64_t i = b * at.rows() + row;
      mass[i] = total.mass[row] * std::exp(bases[i] - lse[i]);
    }
    std::copy(total.kept.begin(), total.kept.end(), kept + b * at.rows());
    std::copy(total.loaded.begin(), total.loaded.end(),
              loaded + b * at.kv_heads);
  }
}

using Floats = ffi::Buffer<ffi::F32>;
using Ints = ffi::Buffer<ffi::S32>;

template <ffi::DataType kType>
ffi::Error ScoreCall(ffi::ThreadPool pool, ffi::Buffer<kType> q,
                     ffi::Buffer<kType> keys, Ints table, Ints lengths,
                     float scale, ffi::Result<Floats> scores,
                     ffi::Result<Floats> highest, ffi::Result<Floats> lse) {
  auto a = q.dimensions(), k = keys.dimensions();
  Sizes at{a[0], a[1], a[2], a[3], k[1], k[3], table.dimensions()[1]};
  Score(pool, at, q.typed_data(), keys.typed_data(), table.typed_data(),
        lengths.typed_data(), scale, scores->typed_data(),
        highest->typed_data(), lse->typed_data());
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error ValueCall(ffi::ThreadPool pool, Floats scores,
                     ffi::Buffer<kType> values, Ints table, Ints lengths,
                     Floats least, Floats lse, Ints window, int64_t sinks,
                     ffi::Result<Floats> out, ffi::Result<Ints> kept,
                     ffi::Result<Floats> mass, ffi::Result<Ints> loaded) {
  auto a = scores.dimensions(), v = values.dimensions();
  Sizes at{a[0], a[1], a[2], v[3], v[1], v[2], table.dimensions()[1]};
  Gather(pool, at, scores.typed_data(), values.typed_data(),
         table.typed_data(), lengths.typed_data(), least.typed_data(),
         lse.typed_data(), window.typed_data(), sinks, out->typed_data(),
         kept->typed_data(), mass->typed_data(), loaded->typed_data());
  return ffi::Error::Success();
}

}  // namespace

#define DEFINE_HANDLERS(name, kType)                                     \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(scores_##name, ScoreCall<kType>,         \
                                ffi::Ffi::Bind()                         \
                                    .Ctx<ffi::ThreadPool>()              \
                                    .Arg<ffi::Buffer<kType>>()           \
                                    .Arg<ffi::Buffer<kType>>()           \
                                    .Arg<Ints>()                         \
                                    .Arg<Ints>()                         \
                                    .Attr<float>("scale")                \
                                    .Ret<Floats>()                       \
                                    .Ret<Floats>()                       \
                                    .Ret<Floats>());                     \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(values_##name, ValueCall<kType>,         \
                                ffi::Ffi::Bind()                         \
                                    .Ctx<ffi::ThreadPool>()              \
                                    .Arg<Floats>()                       \
                                    .Arg<ffi::Buffer<kType>>()           \
                                    .Arg<Ints>()                         \
                                    .Arg<Ints>()                         \
                                    .Arg<Floats>()                       \
                                    .Arg<Floats>()                       \
                                    .Arg<Ints>()                         \
                                    .Attr<int64_t>("sinks")              \
                                    .Ret<Floats>()                       \
                                    .Ret<Ints>()                         \
                                    .Ret<Floats>()                       \
                                    .Ret<Ints>())

DEFINE_HANDLERS(float32, ffi::F32);
DEFINE_HANDLERS(bfloat16, ffi::BF16);
