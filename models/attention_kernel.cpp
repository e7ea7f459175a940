// Loss, gradient and Hessian-vector products of the attention model, fused for one CPU core.
//
// One vector register holds the same number of W different sequences ("lanes"), so that all arithmetic is element-wise:
// an activation (n, d) of a group of W sequences is an array of n * d registers. Sizes are fixed when compiling:
//   REAL float or double, WIDTH d, LENGTH n, VOCABULARY.
//
// The scores Q K' / sqrt(d) are x M x' with M = W_Q' W_K / sqrt(d): one product with a matrix instead of two. All
// passes work with M; the chain rule to W_Q and W_K is applied once per vector. With U = W_V' one layer is
//   g = x M,  S = g x',  A = softmax(S) or S / i,  z = A x,  x_next = x + z U        (A lower triangular)
// and a bar marks the derivative of the loss, y = bar(x_next):
//   bar z = y U',  bar A = bar z x',  B = bar A - sum_j A bar A,  bar S = A * B,  bar g = bar S x,
//   bar x = y + A' bar z + bar S' g + bar g M',   bar M = x' bar g,   bar U = z' y.
// These are kept ("residuals"), since they depend on w alone. A product with v is the derivative of all of the above
// along v (forward over reverse); names of such derivatives begin with d.

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

typedef REAL T;
// The bytes of a register, and a tile of a product that fits in the 32 or 16 registers there are.
#if defined(__AVX512F__)
constexpr int BYTES = 64, TILE_ROWS = 4, TILE_COLS = 4;
#elif defined(__AVX__)
constexpr int BYTES = 32, TILE_ROWS = 4, TILE_COLS = 3;
#else
constexpr int BYTES = 16, TILE_ROWS = 4, TILE_COLS = 3;
#endif
constexpr int D = WIDTH, N = LENGTH, K = VOCABULARY, W = BYTES / sizeof(T), SQUARE = D * D;
typedef T V __attribute__((vector_size(BYTES)));
template <int bytes> struct Integer { typedef int32_t type; };
template <> struct Integer<8> { typedef int64_t type; };
typedef Integer<sizeof(T)>::type I;
typedef I VI __attribute__((vector_size(BYTES)));
#define INLINE inline __attribute__((always_inline))

INLINE V splat(T a) { return a - V{}; }
INLINE V splat(V a) { return a; }

// ---- products of small matrices ------------------------------------------------------------------------------------

// A matrix of registers (E = V) or of numbers shared by all lanes (E = T), read with two strides.
template <class E> struct View {
    const E* p;
    int row, col;
    INLINE V operator()(int i, int j) const { return splat(p[i * row + j * col]); }
};
template <class A, class B> struct Term { View<A> a; View<B> b; };
struct Range { int first, last; };

// acc[r][c] += sum_k a(r, k) b(k, c): R * C sums stay in registers, R + C loads for R * C multiplications.
template <int R, int C, class A, class B> INLINE void multiply(V (&acc)[R][C], View<A> a, View<B> b, Range k) {
    for (int j = k.first; j < k.last; j++) {
        V right[C];
        for (int c = 0; c < C; c++) right[c] = b(j, c);
        for (int r = 0; r < R; r++) {
            V left = a(r, j);
            for (int c = 0; c < C; c++) acc[r][c] += left * right[c];
        }
    }
}

template <int R, int C, class A, class B>
INLINE void tile(V* out, int ld, bool add, int r, int c, Range k, Term<A, B> s, Term<A, B> t) {
    V acc[R][C];
    for (int i = 0; i < R; i++)
        for (int j = 0; j < C; j++) acc[i][j] = add ? out[(r + i) * ld + c + j] : V{};
    View<A> a = s.a; View<B> b = s.b;
    a.p += r * a.row; b.p += c * b.col;
    if (s.a.p) multiply<R, C>(acc, a, b, k);
    a = t.a; b = t.b;
    a.p += r * a.row; b.p += c * b.col;
    if (t.a.p) multiply<R, C>(acc, a, b, k);
    for (int i = 0; i < R; i++)
        for (int j = 0; j < C; j++) out[(r + i) * ld + c + j] = acc[i][j];
}

// out = [out +] s.a s.b + t.a t.b, (ROWS, COLS). range(r, R, c) says which k a tile of R rows at (r, c) sums over.
// A term with a null pointer is left out.
template <int COLS, int R, class A, class B, class F>
INLINE void tiles_of_rows(V* out, bool add, int r, Term<A, B> s, Term<A, B> t, F range) {
    constexpr int C = TILE_COLS, rest = COLS % C, whole = COLS - rest;
    for (int c = 0; c < whole; c += C)
        if (Range k = range(r, R, c); k.first < k.last) tile<R, C>(out, COLS, add, r, c, k, s, t);
    if constexpr (rest > 0)
        if (Range k = range(r, R, whole); k.first < k.last) tile<R, rest>(out, COLS, add, r, whole, k, s, t);
}
template <int ROWS, int COLS, class A, class B, class F>
INLINE void matmul(V* out, bool add, Term<A, B> s, Term<A, B> t, F range) {
    constexpr int R = TILE_ROWS, rest = ROWS % R, whole = ROWS - rest;
    for (int r = 0; r < whole; r += R) tiles_of_rows<COLS, R>(out, add, r, s, t, range);
    if constexpr (rest > 0) tiles_of_rows<COLS, rest>(out, add, whole, s, t, range);
}

// out (n, COLS) = [out +] x a + y b with weights a, b (IN, COLS) shared by all lanes.
template <int IN, int COLS>
__attribute__((noinline)) void linear(V* out, bool add, const V* x, const T* a, const V* y, const T* b) {
    matmul<N, COLS>(out, add, Term<V, T>{{x, IN, 1}, {a, COLS, 1}}, Term<V, T>{{y, IN, 1}, {b, COLS, 1}},
                    [](int, int, int) { return Range{0, IN}; });
}
// out (ROWS, COLS) += a' b + c' e, summed over positions.
template <int ROWS, int COLS>
__attribute__((noinline)) void outer(V* out, const V* a, const V* b, const V* c, const V* e) {
    matmul<ROWS, COLS>(out, true, Term<V, V>{{a, 1, ROWS}, {b, COLS, 1}}, Term<V, V>{{c, 1, ROWS}, {e, COLS, 1}},
                       [](int, int, int) { return Range{0, N}; });
}
// out (n, n) = a b' + c e' where j <= i; tiles on the diagonal leave numbers at j > i, those above are not written.
__attribute__((noinline)) void scores(V* out, const V* a, const V* b, const V* c, const V* e) {
    matmul<N, N>(out, false, Term<V, V>{{a, D, 1}, {b, 1, D}}, Term<V, V>{{c, D, 1}, {e, 1, D}},
                 [](int r, int R, int c) { return Range{0, c < r + R ? D : 0}; });
}
// out (n, d) = [out +] A x + B y with lower triangular A, B (zero at j > i within the tiles on the diagonal).
__attribute__((noinline)) void mix(V* out, bool add, const V* A, const V* x, const V* B, const V* y) {
    matmul<N, D>(out, add, Term<V, V>{{A, N, 1}, {x, D, 1}}, Term<V, V>{{B, N, 1}, {y, D, 1}},
                 [](int r, int R, int) { return Range{0, r + R}; });
}
// out (n, d) += A' x + B' y.
__attribute__((noinline)) void mix_back(V* out, const V* A, const V* x, const V* B, const V* y) {
    matmul<N, D>(out, true, Term<V, V>{{A, 1, N}, {x, D, 1}}, Term<V, V>{{B, 1, N}, {y, D, 1}},
                 [](int r, int, int) { return Range{r, N}; });
}

// ---- softmax -------------------------------------------------------------------------------------------------------

// exp(x) for x <= 0 to about one unit in the last place; NaN stays NaN.
INLINE V exponential(V x) {
    constexpr bool wide = sizeof(T) == 8;
    constexpr T magic = wide ? T(6755399441055744.0) : T(12582912.0);  // 1.5 * 2^mantissa: adding it rounds
    constexpr T high = wide ? T(6.93147180369123816490e-01) : T(0.693359375);
    constexpr T low = wide ? T(1.90821492927058770002e-10) : T(-2.12194440e-4);
    constexpr int mantissa = wide ? 52 : 23, terms = wide ? 13 : 7;
    V floor = splat(wide ? T(-708) : T(-87));
    x = x < floor ? floor : x;
    V shifted = x * T(1.44269504088896340736) + magic, k = shifted - magic;
    V r = (x - k * high) - k * low, p = splat(T(1));
    for (int i = terms; i > 0; i--) p = p * r * (T(1) / T(i)) + T(1);
    VI bits = (((VI)shifted) << mantissa) + (I(wide ? 1023 : 127) << mantissa);
    return p * (V)bits;
}
// Softmax of the first m numbers of a row; returns the maximum and the sum of exponentials.
INLINE void softmax(V* row, int m, V& top, V& sum) {
    top = row[0];
    for (int j = 1; j < m; j++) top = row[j] > top ? row[j] : top;
    sum = V{};
    for (int j = 0; j < m; j++) sum += row[j] = exponential(row[j] - top);
    V scale = T(1) / sum;
    for (int j = 0; j < m; j++) row[j] *= scale;
}
INLINE void clear_after(V* row, int i) {
    for (int j = i + 1; j < N; j++) row[j] = V{};
}

// ---- weights, residuals, work space --------------------------------------------------------------------------------

struct Layer { T M[SQUARE], Mt[SQUARE], U[SQUARE], Ut[SQUARE]; };
struct Weights { T token[K * D], position[N * D], head[K * D], headt[D * K]; Layer layer[1]; };
struct LayerSums { V M[SQUARE], U[SQUARE]; };
struct Sums { V token[K * D], position[N * D], head[K * D]; LayerSums layer[1]; };
struct Step { V x[N * D], g[N * D], z[N * D], y[N * D], zb[N * D], gb[N * D], A[N * N], B[N * N], Sb[N * N]; };
struct Residuals { V chosen[N * K], x[N * D], p[N * K], lb[N * K]; Step step[1]; };
struct DStep { V x[N * D], g[N * D], z[N * D], A[N * N]; };
struct Scratch { V x[N * D], l[N * K], y[N * D], zb[N * D], gb[N * D], S[N * N]; DStep step[1]; };

// The arguments of every call; mirrored field by field in native_build.py.
struct Problem {
    int64_t groups, samples, length, layers, loops, softmax, kept;
    const int32_t *tokens, *targets;  // (groups, n, W)
    const T* scored;                  // (groups, n, W): 1 / (scored tokens of the sequence), 0 where not scored
    char *residuals, *work;           // residuals of the first `kept` groups; scratch
};
size_t sizeof_weights(const Problem& p) { return (sizeof(Weights) + (p.layers - 1) * sizeof(Layer) + 63) / 64 * 64; }
size_t sizeof_sums(const Problem& p) { return sizeof(Sums) + (p.layers - 1) * sizeof(LayerSums); }
size_t sizeof_residuals(const Problem& p) { return sizeof(Residuals) + (p.layers * p.loops - 1) * sizeof(Step); }
size_t sizeof_scratch(const Problem& p) { return sizeof(Scratch) + (p.layers * p.loops - 1) * sizeof(DStep); }

// out (d, d) += factor a b, summed in double: all sequences share the error of M.
void add_product(T* __restrict out, double factor, const T* a, const T* b) {
    for (int i = 0; i < D; i++) {
        double row[D] = {};
        for (int k = 0; k < D; k++)
            for (int j = 0; j < D; j++) row[j] += double(a[i * D + k]) * double(b[k * D + j]);
        for (int j = 0; j < D; j++) out[i * D + j] += T(factor * row[j]);
    }
}
template <int ROWS, int COLS> void transpose(T* out, const T* in) {
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLS; j++) out[j * ROWS + i] = in[i * COLS + j];
}
void sum_lanes(T* out, const V* in, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        V x = in[i];
        for (int half = W / 2; half > 0; half /= 2)
            for (int lane = 0; lane < half; lane++) x[lane] += x[lane + half];
        out[i] = x[0];
    }
}
// Where the parts of w begin: (token, position, head, W_Q, W_K, W_V, W_Q, ..).
struct Offsets {
    int64_t head, layers;
    Offsets(const Problem& p) : head((K + p.length) * D), layers(head + K * D) {}
    int64_t layer(int l) const { return layers + l * 3 * SQUARE; }
};
const double scale = 1 / std::sqrt(double(D));

// Split w into matrices as the passes need them; with v, the derivative of this along v.
void unpack(const Problem& p, const T* w, const T* v, Weights& out) {
    const T* from = v ? v : w;
    const Offsets at(p);
    T left[SQUARE];
    std::memcpy(out.token, from, sizeof out.token);
    std::memcpy(out.position, from + K * D, sizeof out.position);
    std::memcpy(out.head, from + at.head, sizeof out.head);
    transpose<K, D>(out.headt, out.head);
    for (int l = 0; l < p.layers; l++) {
        const T *W_Q = w + at.layer(l), *mine = from + at.layer(l);
        Layer& layer = out.layer[l];
        std::memset(layer.M, 0, sizeof layer.M);
        transpose<D, D>(left, mine);
        add_product(layer.M, scale, left, W_Q + SQUARE);
        if (v) {
            transpose<D, D>(left, W_Q);
            add_product(layer.M, scale, left, mine + SQUARE);
        }
        transpose<D, D>(layer.Mt, layer.M);
        std::memcpy(layer.Ut, mine + 2 * SQUARE, sizeof layer.Ut);
        transpose<D, D>(layer.U, layer.Ut);
    }
}
// Add up the lanes and go back from M to W_Q and W_K. The bar M at w are written to `bars` (layers, d, d); with v they
// are read, and out is the derivative along v.
void pack(const Problem& p, const T* w, const T* v, const Sums& sums, T* bars, T* out) {
    const Offsets at(p);
    T bar[SQUARE], left[SQUARE];
    std::memset(out, 0, at.layer(p.layers) * sizeof(T));
    sum_lanes(out, sums.token, K * D);
    sum_lanes(out + K * D, sums.position, N * D);
    sum_lanes(out + at.head, sums.head, K * D);
    for (int l = 0; l < p.layers; l++, bars += SQUARE) {
        const int64_t Q = at.layer(l), K_ = Q + SQUARE;
        sum_lanes(bar, sums.layer[l].M, SQUARE);
        transpose<D, D>(left, bar);
        add_product(out + Q, scale, w + K_, left);
        add_product(out + K_, scale, w + Q, bar);
        if (v) {
            transpose<D, D>(left, bars);
            add_product(out + Q, scale, v + K_, left);
            add_product(out + K_, scale, v + Q, bars);
        } else std::memcpy(bars, bar, sizeof bar);
        sum_lanes(left, sums.layer[l].U, SQUARE);
        transpose<D, D>(out + K_ + SQUARE, left);
    }
}

// ---- passes at w ---------------------------------------------------------------------------------------------------

// Tokens as a matrix of zeros and ones (n, V): a product with it beats looking up W different rows of a table.
void embed(V* x, const V* chosen, const T* token, const T* position) {
    for (int i = 0; i < N * D; i++) x[i] = splat(position[i]);
    linear<K, D>(x, true, chosen, token, nullptr, nullptr);
}
void embed_back(Sums& sums, const V* chosen, const V* xb) {
    for (int i = 0; i < N * D; i++) sums.position[i] += xb[i];
    outer<K, D>(sums.token, chosen, xb, nullptr, nullptr);
}

// Without `keep` all steps share the memory of the first: only losses are wanted.
void forward(const Problem& p, const Weights& w, int64_t group, Residuals& r, T* loss, bool keep = true) {
    const int steps = p.layers * p.loops;
    std::memset((void*)r.chosen, 0, sizeof r.chosen);
    for (int i = 0; i < N; i++)
        for (int lane = 0; lane < W; lane++) r.chosen[i * K + p.tokens[(group * N + i) * W + lane]][lane] = 1;
    embed(r.step[0].x, r.chosen, w.token, w.position);
    for (int t = 0; t < steps; t++) {
        Step& s = r.step[keep ? t : 0];
        const Layer& l = w.layer[t % p.layers];
        linear<D, D>(s.g, false, s.x, l.M, nullptr, nullptr);
        scores(s.A, s.g, s.x, nullptr, nullptr);
        for (int i = 0; i < N; i++) {
            V top, sum, *row = s.A + i * N;
            if (p.softmax) softmax(row, i + 1, top, sum);
            else for (int j = 0; j <= i; j++) row[j] *= T(1) / T(i + 1);
            clear_after(row, i);
        }
        mix(s.z, false, s.A, s.x, nullptr, nullptr);
        V* next = t + 1 == steps ? r.x : keep ? r.step[t + 1].x : s.x;
        if (next != s.x) std::memcpy(next, s.x, sizeof s.x);
        linear<D, D>(next, true, s.z, l.U, nullptr, nullptr);
    }
    linear<D, K>(r.p, false, r.x, w.headt, nullptr, nullptr);
    const int32_t* targets = p.targets + group * N * W;
    const T* scored = p.scored + group * N * W;
    T total[W] = {};
    for (int i = 0; i < N; i++) {
        V top, sum, *row = r.p + i * K, weight = *(const V*)(scored + i * W);
        T chosen[W];
        for (int lane = 0; lane < W; lane++) chosen[lane] = row[targets[i * W + lane]][lane];
        softmax(row, K, top, sum);
        for (int v = 0; v < K; v++) r.lb[i * K + v] = weight * row[v];
        for (int lane = 0; lane < W; lane++) {
            r.lb[i * K + targets[i * W + lane]][lane] -= weight[lane];
            // The difference first: of a token that is nearly certain the loss is far smaller than its score.
            if (weight[lane] != 0) total[lane] += weight[lane] * (std::log(sum[lane]) + (top[lane] - chosen[lane]));
        }
    }
    for (int lane = 0; loss && lane < W && group * W + lane < p.samples; lane++) loss[group * W + lane] = total[lane];
}

// Without `sums` only the residuals are made.
void reverse(const Problem& p, const Weights& w, int64_t group, Residuals& r, Scratch& k, Sums* sums) {
    const int steps = p.layers * p.loops;
    linear<K, D>(r.step[steps - 1].y, false, r.lb, w.head, nullptr, nullptr);
    if (sums) outer<K, D>(sums->head, r.lb, r.x, nullptr, nullptr);
    for (int t = steps - 1; t >= 0; t--) {
        Step& s = r.step[t];
        const Layer& l = w.layer[t % p.layers];
        linear<D, D>(s.zb, false, s.y, l.Ut, nullptr, nullptr);
        scores(s.B, s.zb, s.x, nullptr, nullptr);
        for (int i = 0; i < N; i++) {
            V mean = V{}, *a = s.A + i * N, *b = s.B + i * N;
            for (int j = 0; p.softmax && j <= i; j++) mean += a[j] * b[j];
            for (int j = 0; j <= i; j++) {
                b[j] -= mean;
                s.Sb[i * N + j] = p.softmax ? a[j] * b[j] : b[j] * (T(1) / T(i + 1));
            }
            clear_after(s.Sb + i * N, i);
        }
        mix(s.gb, false, s.Sb, s.x, nullptr, nullptr);
        V* out = t > 0 ? r.step[t - 1].y : k.y;
        std::memcpy(out, s.y, sizeof s.y);
        mix_back(out, s.A, s.zb, s.Sb, s.g);
        linear<D, D>(out, true, s.gb, l.Mt, nullptr, nullptr);
        if (!sums) continue;
        outer<D, D>(sums->layer[t % p.layers].M, s.x, s.gb, nullptr, nullptr);
        outer<D, D>(sums->layer[t % p.layers].U, s.z, s.y, nullptr, nullptr);
    }
    if (sums) embed_back(*sums, r.chosen, k.y);
}

// ---- their derivatives along v -------------------------------------------------------------------------------------

// v itself, or one unit vector of (token, position, head, and M, U of each layer), whose zeros are not multiplied.
// A unit vector asks for the rows of the Hessian of its own part and of those after it in the order of `Part`:
// the others follow from symmetry.
enum Part { ALL, HEAD, U, M, INPUT };
struct Direction {
    const Weights* v;
    Part part;
    int layer, row, col;
    bool position;

    bool is(Part which, int l) const { return part == which && layer == l; }
    bool moves_x(int t) const { return part == ALL || part == INPUT || (part != HEAD && t > layer); }
    bool wants(Part rows) const { return part == ALL || part <= rows; }
};
// out(:, to) += in(:, from): the product with a matrix that has a single one.
INLINE void add_column(V* out, int columns, int to, const V* in, int columns_in, int from) {
    for (int i = 0; i < N; i++) out[i * columns + to] += in[i * columns_in + from];
}

void dinput(const Direction& v, const Residuals& r, V* dx) {
    if (v.part == ALL) return embed(dx, r.chosen, v.v->token, v.v->position);
    std::memset((void*)dx, 0, N * D * sizeof(V));
    if (v.position) dx[v.row * D + v.col] = splat(T(1));
    else add_column(dx, D, v.col, r.chosen, K, v.row);
}

void dforward(const Problem& p, const Weights& w, const Direction& v, int64_t group, const Residuals& r, Scratch& k) {
    const int steps = p.layers * p.loops;
    if (v.moves_x(0)) dinput(v, r, k.step[0].x);
    for (int t = 0; t < steps; t++) {
        const int layer = t % p.layers;
        const Step& s = r.step[t];
        DStep& d = k.step[t];
        const Layer &l = w.layer[layer], *dl = v.v ? v.v->layer + layer : nullptr;
        const V* dx = v.moves_x(t) ? d.x : nullptr;
        V* next = t + 1 < steps ? k.step[t + 1].x : k.x;
        if (dx) std::memcpy(next, dx, sizeof d.x);
        else std::memset((void*)next, 0, sizeof d.x);
        if (v.is(U, layer)) add_column(next, D, v.col, s.z, D, v.row);
        if (!dx && !v.is(M, layer)) continue;
        linear<D, D>(d.g, false, dx, l.M, dl ? s.x : nullptr, dl ? dl->M : nullptr);
        if (v.is(M, layer)) add_column(d.g, D, v.col, s.x, D, v.row);
        scores(d.A, d.g, s.x, dx ? s.g : nullptr, dx);
        for (int i = 0; i < N; i++) {
            const V* a = s.A + i * N;
            V mean = V{}, *da = d.A + i * N;
            for (int j = 0; p.softmax && j <= i; j++) mean += a[j] * da[j];
            for (int j = 0; j <= i; j++) da[j] = p.softmax ? a[j] * (da[j] - mean) : da[j] * (T(1) / T(i + 1));
            clear_after(da, i);
        }
        mix(d.z, false, d.A, s.x, dx ? s.A : nullptr, dx);
        linear<D, D>(next, true, d.z, l.U, dl ? s.z : nullptr, dl ? dl->U : nullptr);
    }
    const V* dx = v.moves_x(steps) ? k.x : nullptr;
    linear<D, K>(k.l, false, dx, w.headt, v.v ? r.x : nullptr, v.v ? v.v->headt : nullptr);
    if (v.part == HEAD) add_column(k.l, K, v.row, r.x, D, v.col);
    for (int i = 0; i < N; i++) {
        V mean = V{}, weight = *(const V*)(p.scored + (group * N + i) * W), *dl = k.l + i * K;
        for (int c = 0; c < K; c++) mean += r.p[i * K + c] * dl[c];
        for (int c = 0; c < K; c++) dl[c] = weight * r.p[i * K + c] * (dl[c] - mean);
    }
}

// k.S holds d bar A and becomes d bar S; da is null where A does not move.
INLINE void dsoftmax_back(bool softmax, const Step& s, const V* dA, V* S) {
    for (int i = 0; i < N; i++) {
        const V *a = s.A + i * N, *b = s.B + i * N, *da = dA ? dA + i * N : nullptr;
        V mean = V{}, *row = S + i * N;
        if (!softmax)
            for (int j = 0; j <= i; j++) row[j] *= T(1) / T(i + 1);
        else {
            for (int j = 0; j <= i; j++) mean += a[j] * row[j];
            for (int j = 0; da && j <= i; j++) mean += da[j] * b[j];
            for (int j = 0; j <= i; j++) row[j] = a[j] * (row[j] - mean);
            for (int j = 0; da && j <= i; j++) row[j] += da[j] * b[j];
        }
        clear_after(row, i);
    }
}

void dreverse(const Problem& p, const Weights& w, const Direction& v, int64_t group, const Residuals& r, Scratch& k,
              Sums& sums) {
    const int steps = p.layers * p.loops;
    linear<K, D>(k.y, false, k.l, w.head, v.v ? r.lb : nullptr, v.v ? v.v->head : nullptr);
    if (v.part == HEAD) add_column(k.y, D, v.col, r.lb, K, v.row);
    if (v.wants(HEAD)) outer<K, D>(sums.head, k.l, r.x, v.moves_x(steps) ? r.lb : nullptr, k.x);
    for (int t = steps - 1; t >= 0; t--) {
        const int layer = t % p.layers;
        const Step& s = r.step[t];
        const DStep& d = k.step[t];
        const Layer &l = w.layer[layer], *dl = v.v ? v.v->layer + layer : nullptr;
        const V *dx = v.moves_x(t) ? d.x : nullptr, *dA = dx || v.is(M, layer) ? d.A : nullptr;
        linear<D, D>(k.zb, false, k.y, l.Ut, dl ? s.y : nullptr, dl ? dl->Ut : nullptr);
        if (v.is(U, layer)) add_column(k.zb, D, v.row, s.y, D, v.col);
        if (v.wants(U)) outer<D, D>(sums.layer[layer].U, s.z, k.y, dA ? d.z : nullptr, s.y);
        scores(k.S, k.zb, s.x, dx ? s.zb : nullptr, dx);
        dsoftmax_back(p.softmax, s, dA, k.S);
        mix(k.gb, false, k.S, s.x, dx ? s.Sb : nullptr, dx);
        mix_back(k.y, dA, s.zb, s.A, k.zb);
        mix_back(k.y, k.S, s.g, dA ? s.Sb : nullptr, d.g);
        linear<D, D>(k.y, true, k.gb, l.Mt, dl ? s.gb : nullptr, dl ? dl->Mt : nullptr);
        if (v.is(M, layer)) add_column(k.y, D, v.row, s.gb, D, v.col);
        if (v.wants(M)) outer<D, D>(sums.layer[layer].M, s.x, k.gb, dx, s.gb);
    }
    embed_back(sums, r.chosen, k.y);
}

// ---- all groups ----------------------------------------------------------------------------------------------------

// The parts of the work space.
struct Work {
    Scratch& scratch;
    Residuals& spare;
    Weights& weights;
    char *tangents, *sums;
    int64_t sums_each, tangents_each;

    Work(const Problem& p, int64_t block)
        : scratch(*(Scratch*)p.work), spare(*(Residuals*)(p.work + sizeof_scratch(p))),
          weights(*(Weights*)((char*)&spare + sizeof_residuals(p))), tangents((char*)&weights + sizeof_weights(p)),
          sums(tangents + block * sizeof_weights(p)), sums_each(sizeof_sums(p)), tangents_each(sizeof_weights(p)) {}
    Sums& sum(int64_t b) { return *(Sums*)(sums + b * sums_each); }
    Weights& tangent(int64_t b) { return *(Weights*)(tangents + b * tangents_each); }
};

// All directions of a block pass a group of sequences while its residuals are in the cache.
template <class F> void sweep(const Problem& p, const T* w, int64_t block, Work& work, F direction) {
    unpack(p, w, nullptr, work.weights);
    std::memset(work.sums, 0, block * work.sums_each);
    for (int64_t group = 0; group < p.groups; group++) {
        Residuals* r = (Residuals*)(p.residuals + group * sizeof_residuals(p));
        if (group >= p.kept) {
            r = &work.spare;
            forward(p, work.weights, group, *r, nullptr);
            reverse(p, work.weights, group, *r, work.scratch, nullptr);
        }
        for (int64_t b = 0; b < block; b++) {
            const Direction v = direction(b);
            dforward(p, work.weights, v, group, *r, work.scratch);
            dreverse(p, work.weights, v, group, *r, work.scratch, work.sum(b));
        }
    }
}
// Unit vector number i, in the order of `Sums`.
Direction unit(int64_t i) {
    constexpr int64_t input = (K + N) * D, head = input + K * D;
    if (i < input) return {nullptr, INPUT, 0, int(i < K * D ? i / D : i / D - K), int(i % D), i >= K * D};
    if (i < head) return {nullptr, HEAD, 0, int((i - input) / D), int(i % D), false};
    i -= head;
    const bool u = i / SQUARE % 2;
    return {nullptr, u ? U : M, int(i / (2 * SQUARE)), int(i % SQUARE / D), int(i % D), false};
}

}  // namespace

extern "C" {

// W, the sequences of a group.
int64_t lanes() { return W; }
// Bytes of the residuals of one group, and of the work space for `block` vectors at once.
int64_t residual_bytes(const Problem* p) { return sizeof_residuals(*p); }
int64_t work_bytes(const Problem* p, int64_t block) {
    const int64_t each = sizeof_weights(*p) + sizeof_sums(*p);
    return sizeof_scratch(*p) + sizeof_residuals(*p) + sizeof_weights(*p) + block * each;
}

// losses (samples,), gradient of their sum (P,), bars (layers, d, d); keeps the residuals of the first groups.
void evaluate(const Problem* p, const T* w, T* losses, T* gradient, T* bars) {
    Work work(*p, 1);
    unpack(*p, w, nullptr, work.weights);
    std::memset(work.sums, 0, work.sums_each);
    for (int64_t group = 0; group < p->groups; group++) {
        Residuals& r = group < p->kept ? *(Residuals*)(p->residuals + group * sizeof_residuals(*p)) : work.spare;
        forward(*p, work.weights, group, r, losses);
        reverse(*p, work.weights, group, r, work.scratch, &work.sum(0));
    }
    pack(*p, w, nullptr, work.sum(0), bars, gradient);
}

// out (points, samples): the losses alone, at each row of points (points, P).
void losses(const Problem* p, int64_t count, const T* points, T* out, int64_t size) {
    Work work(*p, 0);
    for (int64_t b = 0; b < count; b++) {
        unpack(*p, points + b * size, nullptr, work.weights);
        for (int64_t group = 0; group < p->groups; group++)
            forward(*p, work.weights, group, work.spare, out + b * p->samples, false);
    }
}

// out (block, P) = H v for the rows v of vectors (block, P); H of the summed loss.
void products(const Problem* p, const T* w, T* bars, int64_t block, const T* vectors, T* out, int64_t size) {
    Work work(*p, block);
    for (int64_t b = 0; b < block; b++) unpack(*p, w, vectors + b * size, work.tangent(b));
    sweep(*p, w, block, work, [&](int64_t b) { return Direction{&work.tangent(b), ALL, 0, 0, 0, false}; });
    for (int64_t b = 0; b < block; b++) pack(*p, w, vectors + b * size, work.sum(b), bars, out + b * size);
}

// Rows first, first + 1, .. of the Hessian in the coordinates (token, position of n, head, M and U of each layer), out
// (block, Q). Only the entries that a `Direction` asks for are not zero.
void units(const Problem* p, const T* w, int64_t first, int64_t block, T* out) {
    Work work(*p, block);
    const int64_t size = work.sums_each / sizeof(V);
    sweep(*p, w, block, work, [&](int64_t b) { return unit(first + b); });
    for (int64_t b = 0; b < block; b++) sum_lanes(out + b * size, (const V*)&work.sum(b), size);
}

}
