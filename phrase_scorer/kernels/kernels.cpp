// The compiled kernels: what follows each matrix product of the scoring engine, and of the training
// objective, in one pass over its result.
//
// The products themselves are the library's; here is what would otherwise be ten passes over
// memory: gates, maxout, the sum of exponentials. Every function has its torch twin of the same name
// in kernels.py, which documents it and runs where this file cannot be compiled. For speed, loops
// depart from the twins' equations in this: exp is a polynomial, tanh and the sigmoid are made of it,
// nothing is written out between gates and state, and tables are read in place instead of gathered.
//
// A function is given rows and columns of its result, the arguments of its twin in their order, and
// where the result goes. `Product` is what a matrix product gives: float or bfloat16. All arrays are
// row-major; `parent`, `word` and `source` choose for each row of the result the rows of the tables
// that it is made of.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

namespace {

constexpr float round_to_integer = 12582912.0f;  // 1.5 * 2^23: a sum with it has no fraction

// 2^x in float, x from -126 to 127: a polynomial of degree 5 (interpolated at Chebyshev's points)
// for the fraction, from -1/2 to 1/2, whose exponent bits then get the integer added. Relative
// error below 4e-7.
inline float power_of_two(float x) {
    x = x < -126.0f ? -126.0f : x;
    x = x > 127.0f ? 127.0f : x;
    const float rounded = x + round_to_integer;
    const float f = x - (rounded - round_to_integer);
    float p = 0.00133908633f;
    p = p * f + 0.00967603177f;
    p = p * f + 0.0555035695f;
    p = p * f + 0.240221068f;
    p = p * f + 0.693147182f;
    p = p * f + 1.0f;
    uint32_t bits, integer;
    __builtin_memcpy(&integer, &rounded, sizeof integer);
    __builtin_memcpy(&bits, &p, sizeof bits);
    bits += integer << 23;
    __builtin_memcpy(&p, &bits, sizeof p);
    return p;
}

constexpr float log2_e = 1.44269504f;

inline float sigmoid(float x) { return 1.0f / (1.0f + power_of_two(-log2_e * x)); }

inline float tanh_of(float x) { return 2.0f / (1.0f + power_of_two(-2.0f * log2_e * x)) - 1.0f; }

struct bfloat16 {
    uint16_t bits;  // the upper half of a float's
};

inline float real(float value) { return value; }

inline float real(bfloat16 value) {
    const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
    float result;
    __builtin_memcpy(&result, &bits, sizeof result);
    return result;
}

inline void store(float value, float* place) { *place = value; }

inline void store(float value, bfloat16* place) {  // rounded to nearest, ties to even
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    place->bits = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline float interpolate(float update, float old_state, float candidate, bool takes_new) {
    return takes_new ? old_state + update * (candidate - old_state)
                     : candidate + update * (old_state - candidate);
}

// The loops over a row's units are functions of their own, not inlined: so the compiler knows that
// what they write is none of what they read, and makes vectors of them (not, with GCC 12, where
// `takes_new` is a bool).
#define ROW_OF_UNITS template <typename Product> __attribute__((noinline)) void

ROW_OF_UNITS after_row(int64_t n, const Product* __restrict u, const float* __restrict s,
               const float* __restrict c, const float* __restrict h, int64_t takes_new,
               float* __restrict next) {
    const int64_t z = n, r = 2 * n;
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
        const float reset = sigmoid(real(u[r + j]) + c[r + j] + s[r + j]);
        const float update = sigmoid(real(u[z + j]) + c[z + j] + s[z + j]);
        const float candidate = tanh_of(s[j] + reset * (real(u[j]) + c[j]));
        next[j] = interpolate(update, h[j], candidate, takes_new != 0);
    }
}

template <typename Product>
void reset_after(int64_t rows, int64_t hidden, const Product* recurrent, const float* states,
                 const float* words, const float* contexts, const int64_t* parent,
                 const int64_t* word, const int64_t* source, bool takes_new, float* result) {
    for (int64_t i = 0; i < rows; ++i) {
        const Product* u = recurrent + parent[i] * 3 * hidden;
        const float* h = states + parent[i] * hidden;
        const float* w = words + word[i] * 3 * hidden;
        const float* c = contexts + source[i] * 3 * hidden;
        after_row(hidden, u, w, c, h, takes_new, result + i * hidden);
    }
}

template <typename Product>
void reset_before_gates(int64_t rows, int64_t hidden, const Product* recurrent, const float* states,
                        const float* words, const float* contexts, const int64_t* parent,
                        const int64_t* word, const int64_t* source, float* updates) {
    float* reset_states = updates + rows * hidden;
    for (int64_t i = 0; i < rows; ++i) {
        const Product* u = recurrent + parent[i] * 2 * hidden;
        const float* h = states + parent[i] * hidden;
        const float* w = words + word[i] * 3 * hidden + hidden;
        const float* c = contexts ? contexts + source[i] * 3 * hidden + hidden : nullptr;
        float *update = updates + i * hidden, *out = reset_states + i * hidden;
        const int64_t r = hidden;
#pragma omp simd
        for (int64_t j = 0; j < hidden; ++j) {
            const float more_z = c ? c[j] : 0.0f, more_r = c ? c[r + j] : 0.0f;
            update[j] = sigmoid(real(u[j]) + w[j] + more_z);
            out[j] = h[j] * sigmoid(real(u[r + j]) + w[r + j] + more_r);
        }
    }
}

template <typename Product>
void reset_before_state(int64_t rows, int64_t hidden, const Product* recurrent,
                        const float* updates, const float* states, const float* words,
                        const float* contexts, const int64_t* parent, const int64_t* word,
                        const int64_t* source, bool takes_new, float* result) {
    for (int64_t i = 0; i < rows; ++i) {
        const Product* u = recurrent + i * hidden;
        const float *h = states + parent[i] * hidden, *update = updates + i * hidden;
        const float* w = words + word[i] * 3 * hidden;
        const float* c = contexts ? contexts + source[i] * 3 * hidden : nullptr;
        float* out = result + i * hidden;
#pragma omp simd
        for (int64_t j = 0; j < hidden; ++j) {
            const float candidate = tanh_of(real(u[j]) + w[j] + (c ? c[j] : 0.0f));
            out[j] = interpolate(update[j], h[j], candidate, takes_new);
        }
    }
}

template <typename Product>
void maxout(int64_t rows, int64_t units, const Product* pieces, const float* words,
            const float* contexts, const int64_t* word, const int64_t* source, float* result) {
    for (int64_t i = 0; i < rows; ++i) {
        const Product* u = pieces + i * 2 * units;
        const float* w = words + word[i] * 2 * units;
        const float* c = contexts + source[i] * 2 * units;
#pragma omp simd
        for (int64_t j = 0; j < units; ++j) {
            const float first = real(u[j]) + w[j] + c[j];
            const int64_t k = units + j;
            const float second = real(u[k]) + w[k] + c[k];
            result[i * units + j] = first > second ? first : second;
        }
    }
}

// Calls work(first, last) for parts of the rows, in several threads where there are many.
template <typename Work>
void over_rows(int64_t rows, int64_t threads, const Work& work) {
    constexpr int64_t enough = 32;  // rows: fewer are done before a thread has begun
    threads = std::max<int64_t>(1, std::min(threads, rows / enough));
    const auto part = [&](int64_t k) { work(rows * k / threads, rows * (k + 1) / threads); };
    std::vector<std::thread> others;
    for (int64_t k = 1; k < threads; ++k) others.emplace_back(part, k);
    part(0);
    for (std::thread& other : others) other.join();
}

// What a gated unit reads at a step of training: signals of the input and of a context, both of
// candidate, update and reset, and the state before; whether a phrase has not ended, row by row.
struct Unit {
    int64_t hidden;
    const float *signals, *context, *states;  // context may be null: 0
    const bool* alive;                        // null: all are
    const std::vector<float> nothing = std::vector<float>(static_cast<size_t>(3 * hidden), 0.0f);

    bool is_alive(int64_t i) const { return !alive || alive[i]; }
    const float* state(int64_t i) const { return states + i * hidden; }
    const float* signal(int64_t i) const { return signals + i * 3 * hidden; }
    const float* more(int64_t i) const {
        return context ? context + i * 3 * hidden : nothing.data();
    }
};

ROW_OF_UNITS after_back_row(int64_t n, const Product* __restrict u, const float* __restrict s,
                    const float* __restrict c, const float* __restrict h, int64_t takes_new,
                    const float* __restrict d_next, const Product* __restrict later,
                    float* __restrict carried, float* __restrict d_s, Product* __restrict d_u) {
    const int64_t z = n, r = 2 * n;
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
        const float d = d_next[j] + carried[j] + real(later[j]);
        const float reset = sigmoid(real(u[r + j]) + c[r + j] + s[r + j]);
        const float update = sigmoid(real(u[z + j]) + c[z + j] + s[z + j]);
        const float recurrent = real(u[j]) + c[j];
        const float candidate = tanh_of(s[j] + reset * recurrent);
        const float share = takes_new ? update : 1.0f - update;  // of the candidate
        const float difference = takes_new ? candidate - h[j] : h[j] - candidate;
        const float d_n = d * share * (1.0f - candidate * candidate);
        const float d_z = d * difference * update * (1.0f - update);
        const float d_r = d_n * recurrent * reset * (1.0f - reset);
        carried[j] = d - d * share;
        d_s[j] = d_n;
        d_s[z + j] = d_z;
        d_s[r + j] = d_r;
        store(d_n * reset, d_u + j);
        store(d_z, d_u + z + j);
        store(d_r, d_u + r + j);
    }
}

ROW_OF_UNITS gate_row(int64_t n, const Product* __restrict u, const float* __restrict s,
              const float* __restrict c, const float* __restrict h,
              Product* __restrict reset_state) {
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
        store(sigmoid(real(u[j]) + c[j] + s[j]) * h[j], reset_state + j);
    }
}

ROW_OF_UNITS before_row(int64_t n, const Product* __restrict u, const Product* __restrict v,
                const float* __restrict s, const float* __restrict c, const float* __restrict h,
                int64_t takes_new, float* __restrict next) {
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
        const float update = sigmoid(real(u[j]) + c[n + j] + s[n + j]);
        const float candidate = tanh_of(s[j] + c[j] + real(v[j]));
        next[j] = interpolate(update, h[j], candidate, takes_new != 0);
    }
}

ROW_OF_UNITS before_back_row(int64_t n, const Product* __restrict u, const Product* __restrict v,
                     const float* __restrict s, const float* __restrict c,
                     const float* __restrict h, int64_t takes_new, const float* __restrict d_next,
                     const Product* __restrict later, float* __restrict carried,
                     float* __restrict d_s, Product* __restrict d_u, Product* __restrict d_v) {
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
        const float d = d_next[j] + carried[j] + real(later[j]);
        const float update = sigmoid(real(u[j]) + c[n + j] + s[n + j]);
        const float candidate = tanh_of(s[j] + c[j] + real(v[j]));
        const float share = takes_new ? update : 1.0f - update;  // of the candidate
        const float difference = takes_new ? candidate - h[j] : h[j] - candidate;
        const float d_n = d * share * (1.0f - candidate * candidate);
        const float d_z = d * difference * update * (1.0f - update);
        carried[j] = d - d * share;
        d_s[j] = d_n;
        d_s[n + j] = d_z;
        store(d_n, d_v + j);
        store(d_z, d_u + j);
    }
}

ROW_OF_UNITS gate_back_row(int64_t n, const Product* __restrict u, const float* __restrict s,
                   const float* __restrict c, const float* __restrict h,
                   const Product* __restrict d_reset_state, float* __restrict carried,
                   float* __restrict d_s, Product* __restrict d_u) {
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
        const float reset = sigmoid(real(u[j]) + c[j] + s[j]), d = real(d_reset_state[j]);
        const float d_r = d * h[j] * reset * (1.0f - reset);
        carried[j] += d * reset;
        d_s[j] = d_r;
        store(d_r, d_u + j);
    }
}

// The new state in the products' type, where that is another.
inline void round_row(int64_t, const float*, float*) {}

inline void round_row(int64_t n, const float* __restrict row, bfloat16* __restrict rounded) {
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) store(row[j], rounded + j);
}

template <typename Product>
void train_reset_after(int64_t rows, const Unit& unit, const Product* u, int64_t takes_new,
                       int64_t threads, float* next, Product* rounded) {
    over_rows(rows, threads, [&](int64_t first, int64_t last) {
        const int64_t n = unit.hidden;
        for (int64_t i = first; i < last; ++i) {
            float* out = next + i * n;
            if (unit.is_alive(i)) {
                after_row(n, u + i * 3 * n, unit.signal(i), unit.more(i), unit.state(i), takes_new,
                          out);
            } else {
                std::copy_n(unit.state(i), n, out);
            }
            round_row(n, out, rounded + i * n);
        }
    });
}

template <typename Product>
void train_reset_after_back(int64_t rows, const Unit& unit, const Product* u, int64_t takes_new,
                            int64_t threads, const float* d_next, const Product* later,
                            float* carried, float* d_s, Product* d_u) {
    over_rows(rows, threads, [&](int64_t first, int64_t last) {
        const int64_t n = unit.hidden;
        for (int64_t i = first; i < last; ++i) {
            float *carry = carried + i * n, *d_signals = d_s + i * 3 * n;
            if (unit.is_alive(i)) {
                after_back_row(n, u + i * 3 * n, unit.signal(i), unit.more(i), unit.state(i),
                               takes_new, d_next + i * n, later + i * n, carry, d_signals,
                               d_u + i * 3 * n);
                continue;
            }
            for (int64_t j = 0; j < n; ++j) carry[j] += d_next[i * n + j] + real(later[i * n + j]);
            std::fill_n(d_signals, 3 * n, 0.0f);
            std::fill_n(d_u + i * 3 * n, 3 * n, Product{});
        }
    });
}

template <typename Product>
void train_reset_before_gate(int64_t rows, const Unit& unit, const Product* u, int64_t threads,
                             Product* reset_states) {
    over_rows(rows, threads, [&](int64_t first, int64_t last) {
        const int64_t n = unit.hidden, r = 2 * n;
        for (int64_t i = first; i < last; ++i) {
            gate_row(n, u + i * 2 * n + n, unit.signal(i) + r, unit.more(i) + r, unit.state(i),
                     reset_states + i * n);
        }
    });
}

template <typename Product>
void train_reset_before(int64_t rows, const Unit& unit, const Product* u, const Product* v,
                        int64_t takes_new, int64_t threads, float* next, Product* rounded) {
    over_rows(rows, threads, [&](int64_t first, int64_t last) {
        const int64_t n = unit.hidden;
        for (int64_t i = first; i < last; ++i) {
            float* out = next + i * n;
            if (unit.is_alive(i)) {
                before_row(n, u + i * 2 * n, v + i * n, unit.signal(i), unit.more(i),
                           unit.state(i), takes_new, out);
            } else {
                std::copy_n(unit.state(i), n, out);
            }
            round_row(n, out, rounded + i * n);
        }
    });
}

template <typename Product>
void train_reset_before_back(int64_t rows, const Unit& unit, const Product* u, const Product* v,
                             int64_t takes_new, int64_t threads, const float* d_next,
                             const Product* later, float* carried, float* d_s, Product* d_u,
                             Product* d_v) {
    over_rows(rows, threads, [&](int64_t first, int64_t last) {
        const int64_t n = unit.hidden;
        for (int64_t i = first; i < last; ++i) {
            float *carry = carried + i * n, *d_signals = d_s + i * 3 * n;
            if (unit.is_alive(i)) {
                before_back_row(n, u + i * 2 * n, v + i * n, unit.signal(i), unit.more(i),
                                unit.state(i), takes_new, d_next + i * n, later + i * n, carry,
                                d_signals, d_u + i * 2 * n, d_v + i * n);
                continue;
            }
            for (int64_t j = 0; j < n; ++j) carry[j] += d_next[i * n + j] + real(later[i * n + j]);
            std::fill_n(d_signals, 2 * n, 0.0f);
            std::fill_n(d_u + i * 2 * n, n, Product{});
            std::fill_n(d_v + i * n, n, Product{});
        }
    });
}

template <typename Product>
void train_reset_before_gate_back(int64_t rows, const Unit& unit, const Product* u,
                                  const Product* d_reset_states, int64_t threads, float* carried,
                                  float* d_s, Product* d_u) {
    over_rows(rows, threads, [&](int64_t first, int64_t last) {
        const int64_t n = unit.hidden, r = 2 * n;
        for (int64_t i = first; i < last; ++i) {
            float* d_signals = d_s + i * 3 * n + r;
            Product* d_products = d_u + i * 2 * n + n;
            if (unit.is_alive(i)) {
                gate_back_row(n, u + i * 2 * n + n, unit.signal(i) + r, unit.more(i) + r,
                              unit.state(i), d_reset_states + i * n, carried + i * n, d_signals,
                              d_products);
            } else {
                std::fill_n(d_signals, n, 0.0f);
                std::fill_n(d_products, n, Product{});
            }
        }
    });
}

// Exact dot product of two float vectors.
inline float dot(const float* a, const float* b, int64_t count) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < count; ++k) sum += a[k] * b[k];
    return sum;
}

// Logits and `bias` are taken times log2 e, so that exp is 2^x. No maximum is subtracted: that would
// be one more pass; who calls this looks for sums that left float32's range. Large terms are looked
// for by stretch, so that the sum is still one vectorised loop.
template <typename Product>
void sum_exp(int64_t rows, int64_t words, int64_t rank, const Product* logits,
             const float* row_scale, const float* bias, const float* features, const float* by_word,
             float share, float* sums) {
    constexpr int64_t stretch = 256;  // words: few stretches hold a term worth computing again
    for (int64_t i = 0; i < rows; ++i) {
        const Product* row = logits + i * words;
        const float factor = row_scale ? row_scale[i] * log2_e : log2_e;
        const auto term = [=](int64_t j) { return power_of_two(real(row[j]) * factor + bias[j]); };
        for (int64_t start = 0; start < words; start += stretch) {
            const int64_t stop = start + stretch < words ? start + stretch : words;
            float sum = 0.0f, largest = 0.0f;
#pragma omp simd reduction(+ : sum) reduction(max : largest)
            for (int64_t j = start; j < stop; ++j) {
                const float value = term(j);
                sum += value;
                largest = value > largest ? value : largest;
            }
            sums[i] += sum;
            if (!features || largest <= share * sums[i]) continue;
            const float least = share * sums[i];
            for (int64_t j = start; j < stop; ++j) {
                const float rounded = term(j);
                if (rounded <= least) continue;
                const float exact = dot(features + i * rank, by_word + j * rank, rank);
                sums[i] += power_of_two(exact * log2_e + bias[j]) - rounded;
            }
        }
    }
}

// One row of softmax_cross_entropy; `terms` is room for a row.
template <typename Product>
float row_cross_entropy(int64_t words, Product* row, const float* bias, int64_t chosen, float weight,
                        float kept, const float* smoothing, float mass, float* d_bias,
                        float* terms) {
    float largest = -3e38f, smoothed = 0.0f, sum = 0.0f;
#pragma omp simd reduction(max : largest)
    for (int64_t j = 0; j < words; ++j) {
        terms[j] = real(row[j]) + bias[j];
        largest = terms[j] > largest ? terms[j] : largest;
    }
    if (smoothing) smoothed = dot(terms, smoothing, words);
    const float chosen_logit = terms[chosen];
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < words; ++j) {
        terms[j] = power_of_two((terms[j] - largest) * log2_e);
        sum += terms[j];
    }
    const float scale = weight * mass / sum;
    terms[chosen] -= kept / mass * sum;
#pragma omp simd
    for (int64_t j = 0; j < words; ++j) {
        float gradient = terms[j] * scale;
        if (smoothing) gradient -= weight * smoothing[j];
        d_bias[j] += gradient;
        store(gradient, row + j);
    }
    const float to_others = smoothing ? (mass - kept) * largest - smoothed : 0.0f;
    return weight * (mass * std::log(sum) + kept * (largest - chosen_logit) + to_others);
}

// Rows are shared out in stretches, each with a sum of its own for the bias, so that no result
// depends on the number of threads.
template <typename Product>
void softmax_cross_entropy(int64_t rows, int64_t words, Product* logits, const float* bias,
                           const int64_t* chosen, const float* weights, float kept,
                           const float* smoothing, int64_t threads, float* d_bias, float* losses) {
    constexpr int64_t stretch = 64;  // rows
    const int64_t stretches = (rows + stretch - 1) / stretch;
    std::vector<float> sums(static_cast<size_t>(stretches * words), 0.0f);
    float mass = kept;  // of the distribution that is to be learned: 1, or nearly
    for (int64_t j = 0; smoothing && j < words; ++j) mass += smoothing[j];
    const auto work = [&](int64_t first) {
        std::vector<float> terms(static_cast<size_t>(words));
        for (int64_t part = first; part < stretches; part += threads) {
            for (int64_t i = part * stretch; i < std::min(rows, (part + 1) * stretch); ++i) {
                losses[i] = row_cross_entropy(words, logits + i * words, bias, chosen[i],
                                              weights[i], kept, smoothing, mass,
                                              sums.data() + part * words, terms.data());
            }
        }
    };
    std::vector<std::thread> others;
    for (int64_t k = 1; k < std::min(threads, stretches); ++k) others.emplace_back(work, k);
    work(0);
    for (std::thread& other : others) other.join();
    for (int64_t part = 0; part < stretches; ++part) {
        const float* sum = sums.data() + part * words;
#pragma omp simd
        for (int64_t j = 0; j < words; ++j) d_bias[j] += sum[j];
    }
}

}  // namespace

extern "C" void two_digits(int64_t rows, int64_t columns, const float* values, float steps,
                           float second_steps, int8_t* result) {
    const int64_t count = rows * columns;
#pragma omp simd
    for (int64_t j = 0; j < count; ++j) {
        const float scaled = values[j] * steps;
        const float first = (scaled + round_to_integer) - round_to_integer;
        const float error = (scaled - first) * second_steps;
        result[j] = static_cast<int8_t>(first);
        result[count + j] = static_cast<int8_t>((error + round_to_integer) - round_to_integer);
    }
}

extern "C" void quantize(int64_t rows, int64_t columns, const float* values, float steps,
                         int8_t* result) {
#pragma omp simd
    for (int64_t j = 0; j < rows * columns; ++j) {
        const float rounded = values[j] * steps + round_to_integer;
        result[j] = static_cast<int8_t>(rounded - round_to_integer);
    }
}

// Each kernel that reads a product, for one type of its numbers.
#define EXPORT(Product, name)                                                                      \
    extern "C" void reset_after_##name(int64_t n, int64_t hidden, const Product* u,                \
                                       const float* h, const float* w, const float* c,             \
                                       const int64_t* parent, const int64_t* word,                 \
                                       const int64_t* source, int64_t takes_new, float* result) {  \
        reset_after(n, hidden, u, h, w, c, parent, word, source, takes_new, result);               \
    }                                                                                              \
    extern "C" void reset_before_gates_##name(                                                     \
        int64_t n, int64_t hidden, const Product* u, const float* h, const float* w,               \
        const float* c, const int64_t* parent, const int64_t* word, const int64_t* source,         \
        float* result) {                                                                           \
        reset_before_gates(n, hidden, u, h, w, c, parent, word, source, result);                   \
    }                                                                                              \
    extern "C" void reset_before_state_##name(                                                     \
        int64_t n, int64_t hidden, const Product* u, const float* updates, const float* h,         \
        const float* w, const float* c, const int64_t* parent, const int64_t* word,                \
        const int64_t* source, int64_t takes_new, float* result) {                                 \
        reset_before_state(n, hidden, u, updates, h, w, c, parent, word, source, takes_new,        \
                           result);                                                                \
    }                                                                                              \
    extern "C" void maxout_##name(int64_t n, int64_t units, const Product* u, const float* w,      \
                                  const float* c, const int64_t* word, const int64_t* source,      \
                                  float* result) {                                                 \
        maxout(n, units, u, w, c, word, source, result);                                           \
    }                                                                                              \
    extern "C" void sum_exp_##name(int64_t n, int64_t words, int64_t rank, const Product* logits,  \
                                   const float* row_scale, const float* bias,                      \
                                   const float* features, const float* by_word, float share,       \
                                   float* sums) {                                                  \
        sum_exp(n, words, rank, logits, row_scale, bias, features, by_word, share, sums);          \
    }                                                                                              \
    extern "C" void train_reset_after_##name(                                                      \
        int64_t rows, int64_t hidden, const float* s, const float* c, const float* h,              \
        const bool* alive, const Product* u, int64_t takes_new, int64_t threads, float* next,      \
        Product* rounded) {                                                                        \
        train_reset_after(rows, Unit{hidden, s, c, h, alive}, u, takes_new, threads, next,         \
                          rounded);                                                                \
    }                                                                                              \
    extern "C" void train_reset_after_back_##name(                                                 \
        int64_t rows, int64_t hidden, const float* s, const float* c, const float* h,              \
        const bool* alive, const Product* u, int64_t takes_new, int64_t threads,                   \
        const float* d_next, const Product* later, float* carried, float* d_signals,               \
        Product* d_u) {                                                                            \
        train_reset_after_back(rows, Unit{hidden, s, c, h, alive}, u, takes_new, threads, d_next,  \
                               later, carried, d_signals, d_u);                                    \
    }                                                                                              \
    extern "C" void train_reset_before_gate_##name(                                                \
        int64_t rows, int64_t hidden, const float* s, const float* c, const float* h,              \
        const bool* alive, const Product* u, int64_t threads, Product* reset_states) {             \
        train_reset_before_gate(rows, Unit{hidden, s, c, h, alive}, u, threads, reset_states);     \
    }                                                                                              \
    extern "C" void train_reset_before_##name(                                                     \
        int64_t rows, int64_t hidden, const float* s, const float* c, const float* h,              \
        const bool* alive, const Product* u, const Product* v, int64_t takes_new, int64_t threads, \
        float* next, Product* rounded) {                                                           \
        train_reset_before(rows, Unit{hidden, s, c, h, alive}, u, v, takes_new, threads, next,     \
                           rounded);                                                               \
    }                                                                                              \
    extern "C" void train_reset_before_back_##name(                                                \
        int64_t rows, int64_t hidden, const float* s, const float* c, const float* h,              \
        const bool* alive, const Product* u, const Product* v, int64_t takes_new, int64_t threads, \
        const float* d_next, const Product* later, float* carried, float* d_signals, Product* d_u, \
        Product* d_v) {                                                                            \
        train_reset_before_back(rows, Unit{hidden, s, c, h, alive}, u, v, takes_new, threads,      \
                                d_next, later, carried, d_signals, d_u, d_v);                      \
    }                                                                                              \
    extern "C" void train_reset_before_gate_back_##name(                                           \
        int64_t rows, int64_t hidden, const float* s, const float* c, const float* h,              \
        const bool* alive, const Product* u, const Product* d_q, int64_t threads, float* carried,  \
        float* d_signals, Product* d_u) {                                                          \
        train_reset_before_gate_back(rows, Unit{hidden, s, c, h, alive}, u, d_q, threads, carried, \
                                     d_signals, d_u);                                              \
    }                                                                                              \
    extern "C" void softmax_cross_entropy_##name(                                                  \
        int64_t n, int64_t words, Product* logits, const float* bias, const int64_t* chosen,       \
        const float* weights, float kept, const float* smoothing, int64_t threads, float* d_bias,  \
        float* losses) {                                                                           \
        softmax_cross_entropy(n, words, logits, bias, chosen, weights, kept, smoothing, threads,   \
                              d_bias, losses);                                                     \
    }

EXPORT(float, float)
EXPORT(bfloat16, bfloat16)
