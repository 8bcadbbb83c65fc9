"""The rewrites of `recognize` by example: pipeline, opset, graph before and after."""

from typing import NamedTuple


class Case(NamedTuple):
    pipeline: str
    opset: int
    before: str
    after: str


SIX = "float three = {3.0}, float zero = {0.0}, float six = {6.0}"
SIXTH = "float three = {3.0}, float zero = {0.0}, float six = {6.0}, float sixth = {0.1666666666666667}"
IO = "(float[N,2,H,W] x) => (float[N,2,H,W] y)"
GATE = "HardSigmoid<alpha = 0.1666666666666667, beta = 0.5>(x)"
TWO_NODES = f"g {IO} {{ HardSigmoid = {GATE} y = Mul(x, HardSigmoid) }}"
CLIPPED = "a = Add(x, three) c = Clip(a, zero, six)"

NORM = "(float[N,S,4] x) => (float[N,S,4] y)"
EPS = "float eps = {0.00001}, float two = {2.0}"
AFFINE = "float[4] w = {1.0, 2.0, 0.5, -1.0}, float[4] b = {0.5, -0.5, 0.0, 1.0}"
ONES = "float[4] y_scale = {1.0, 1.0, 1.0, 1.0}"
SPREAD = "m = ReduceMean<axes = [-1]>(x) d = Sub(x, m) p = Pow(d, two) v = ReduceMean<axes = [-1]>(p) e = Add(v, eps)"
LAYER = "LayerNormalization<axis = -1, epsilon = 0.00001>"

ERF = "float root = {1.4142135623730951}, float one = {1.0}, float half = {0.5}"
TANH = (
    "float c = {0.044715}, float k = {0.7978845608028654}, float three = {3.0}, float one = {1.0}, float half = {0.5}"
)
VECTOR = "(float[N,8] x) => (float[N,8] y)"
ERF_SUM = "d = Div(x, root) e = Erf(d) s = Add(e, one)"
TANH_SUM = "q = Pow(x, three) r = Mul(q, c) t = Add(x, r) u = Mul(t, k) h = Tanh(u) s = Add(h, one)"

QKV = "(float[2,2,S,4] q, float[2,2,T,4] k, float[2,2,T,4] v) => (float[2,2,S,4] y)"
MASKED = "(float[2,2,S,4] q, float[2,2,T,4] k, float[2,2,T,4] v, float[MASK] m) => (float[2,2,S,4] y)"
SCORES = "t = Transpose<perm = [0, 1, 3, 2]>(k) s = MatMul(q, t)"
FLAT = "(float[2,S,8] q, float[2,S,8] k, float[2,S,8] v) => (float[2,S,8] y)"

CASES = {
    "HardSwish as Paddle writes it": Case(
        "recognize", 12, f"g {IO} <{SIX}> {{ {CLIPPED} m = Mul(x, c) y = Div(m, six) }}", TWO_NODES
    ),
    "HardSwish, times a sixth": Case(
        "recognize", 12, f"g {IO} <{SIXTH}> {{ {CLIPPED} m = Mul(c, x) y = Mul(sixth, m) }}", TWO_NODES
    ),
    "HardSwish, x over six first": Case(
        "recognize", 12, f"g {IO} <{SIX}> {{ d = Div(x, six) {CLIPPED} y = Mul(d, c) }}", TWO_NODES
    ),
    "HardSwish, attributes": Case(
        "recognize",
        10,
        f"g {IO} <float three = {{3.0}}, float six = {{6.0}}> {{ a = Add(x, three) c = Clip<min = 0.0, max = 6.0>(a) "
        "m = Mul(x, c) y = Div(m, six) }",
        TWO_NODES,
    ),
    "HardSwish, Relu6": Case(
        "recognize",
        13,
        f"g {IO} <float three = {{3.0}}, float six = {{6.0}}> {{ a = Add(three, x) r = Relu(a) c = Min(r, six) "
        "m = Mul(x, c) y = Div(m, six) }",
        TWO_NODES,
    ),
    "HardSwish, the gate first": Case(
        "recognize",
        12,
        f"g {IO} <{SIX}> {{ {CLIPPED} g = Div(c, six) y = Mul(x, g) }}",
        TWO_NODES.replace("HardSigmoid =", "g =").replace("(x, HardSigmoid)", "(x, g)"),
    ),
    "HardSigmoid": Case("recognize", 12, f"g {IO} <{SIX}> {{ {CLIPPED} y = Div(c, six) }}", f"g {IO} {{ y = {GATE} }}"),
    "HardSigmoid, times a sixth": Case(
        "recognize", 12, f"g {IO} <{SIXTH}> {{ {CLIPPED} y = Mul(sixth, c) }}", f"g {IO} {{ y = {GATE} }}"
    ),
    "HardSwish": Case(
        "recognize",
        14,
        f"g {IO} <{SIX}> {{ {CLIPPED} m = Mul(x, c) y = Div(m, six) }}",
        f"g {IO} {{ y = HardSwish(x) }}",
    ),
    "HardSwish of HardSigmoid": Case(
        "recognize", 14, f"g {IO} {{ s = {GATE} y = Mul(x, s) }}", f"g {IO} {{ y = HardSwish(x) }}"
    ),
    "HardSwish by HardSigmoid in parts": Case(
        "recognize",
        14,
        f"g {IO} <{SIX}> {{ {CLIPPED} g = Div(c, six) y = Mul(g, x) }}",
        f"g {IO} {{ y = HardSwish(x) }}",
    ),
    "HardSwish, the gate in parts": Case(
        "recognize{ops=[HardSwish]}",
        14,
        f"g {IO} <{SIX}> {{ {CLIPPED} g = Div(c, six) y = Mul(g, x) }}",
        f"g {IO} {{ y = HardSwish(x) }}",
    ),
    "HardSwish, the product times a sixth": Case(
        "recognize",
        14,
        f"g {IO} <{SIXTH}> {{ {CLIPPED} m = Mul(c, x) y = Mul(sixth, m) }}",
        f"g {IO} {{ y = HardSwish(x) }}",
    ),
    "HardSwish, x over six": Case(
        "recognize",
        14,
        f"g {IO} <{SIX}> {{ d = Div(x, six) {CLIPPED} y = Mul(d, c) }}",
        f"g {IO} {{ y = HardSwish(x) }}",
    ),
    "LayerNormalization": Case(
        "recognize",
        17,
        f"g {NORM} <{EPS}, {AFFINE}> {{ {SPREAD} s = Sqrt(e) n = Div(d, s) t = Mul(n, w) y = Add(t, b) }}",
        f"g {NORM} <{AFFINE}> {{ y = {LAYER}(x, w, b) }}",
    ),
    "LayerNormalization without scale and bias": Case(
        "recognize",
        17,
        f"g {NORM} <{EPS}> {{ {SPREAD} s = Sqrt(e) y = Div(d, s) }}",
        f"g {NORM} <{ONES}> {{ y = {LAYER}(x, y_scale) }}",
    ),
    "LayerNormalization, squared by itself, times the reciprocal": Case(
        "recognize",
        17,
        f"g {NORM} <{EPS}, {AFFINE}> {{ m = ReduceMean<axes = [2]>(x) d = Sub(x, m) p = Mul(d, d) "
        "v = ReduceMean<axes = [2]>(p) e = Add(eps, v) s = Sqrt(e) r = Reciprocal(s) n = Mul(r, d) y = Mul(w, n) }",
        f"g {NORM} <float[4] w = {{1.0, 2.0, 0.5, -1.0}}> {{ y = {LAYER}(x, w) }}",
    ),
    "LayerNormalization over two axes, which are an input": Case(
        "recognize",
        18,
        "g (float[N,2,2] x) => (float[N,2,2] y) <float eps = {0.00001}, float two = {2.0}, int64[2] axes = {1, 2}> "
        "{ m = ReduceMean(x, axes) d = Sub(x, m) p = Pow(d, two) v = ReduceMean(p, axes) e = Add(v, eps) "
        "s = Sqrt(e) y = Div(d, s) }",
        "g (float[N,2,2] x) => (float[N,2,2] y) <float[2,2] y_scale = {1.0, 1.0, 1.0, 1.0}> "
        "{ y = LayerNormalization<axis = -2, epsilon = 0.00001>(x, y_scale) }",
    ),
    "RMSNormalization": Case(
        "recognize",
        23,
        f"g {NORM} <{EPS}, int64[1] axes = {{-1}}, {AFFINE}> {{ p = Pow(x, two) v = ReduceMean(p, axes) "
        "e = Add(v, eps) s = Sqrt(e) n = Div(x, s) t = Mul(n, w) y = Add(t, b) }",
        f"g {NORM} <{AFFINE}> {{ t = RMSNormalization<axis = -1, epsilon = 0.00001>(x, w) y = Add(t, b) }}",
    ),
    "RMSNormalization, times the reciprocal": Case(
        "recognize",
        23,
        f"g {NORM} <{EPS}, int64[1] axes = {{-1}}, float[4] w = {{1.0, 2.0, 0.5, -1.0}}> {{ p = Mul(x, x) "
        "v = ReduceMean(p, axes) e = Add(v, eps) s = Sqrt(e) r = Reciprocal(s) n = Mul(x, r) y = Mul(n, w) }",
        f"g {NORM} <float[4] w = {{1.0, 2.0, 0.5, -1.0}}> {{ "
        "y = RMSNormalization<axis = -1, epsilon = 0.00001>(x, w) }",
    ),
    "Gelu": Case(
        "recognize",
        20,
        f"g {VECTOR} <{ERF}> {{ {ERF_SUM} m = Mul(x, s) y = Mul(m, half) }}",
        f"g {VECTOR} {{ y = Gelu(x) }}",
    ),
    "Gelu, halved first": Case(
        "recognize",
        20,
        f"g {VECTOR} <{ERF}> {{ {ERF_SUM} m = Mul(x, half) y = Mul(m, s) }}",
        f"g {VECTOR} {{ y = Gelu(x) }}",
    ),
    "Gelu, the other factor halved": Case(
        "recognize",
        20,
        f"g {VECTOR} <{ERF}, float i = {{0.7071067811865476}}> {{ d = Mul(x, i) e = Erf(d) s = Add(e, one) "
        "m = Mul(s, half) y = Mul(x, m) }",
        f"g {VECTOR} {{ y = Gelu(x) }}",
    ),
    "Gelu, over two": Case(
        "recognize",
        20,
        f"g {VECTOR} <{ERF}, float two = {{2.0}}> {{ {ERF_SUM} m = Mul(x, s) y = Div(m, two) }}",
        f"g {VECTOR} {{ y = Gelu(x) }}",
    ),
    **{
        f"Gelu by tanh, {name}": Case(
            "recognize",
            20,
            f"g {VECTOR} <{TANH}, float two = {{2.0}}> {{ {TANH_SUM} {tail} }}",
            f'g {VECTOR} {{ y = Gelu<approximate = "tanh">(x) }}',
        )
        for name, tail in {
            "halved last": "m = Mul(x, s) y = Mul(m, half)",
            "halved first": "m = Mul(x, half) y = Mul(m, s)",
            "the other factor halved": "m = Mul(s, half) y = Mul(x, m)",
            "over two": "m = Mul(x, s) y = Div(m, two)",
        }.items()
    },
    "Mish": Case(
        "recognize", 18, f"g {VECTOR} {{ s = Softplus(x) t = Tanh(s) y = Mul(x, t) }}", f"g {VECTOR} {{ y = Mish(x) }}"
    ),
    "Softplus": Case(
        "recognize{ops=[Softplus]}",
        17,
        f"g {VECTOR} <float one = {{1.0}}> {{ e = Exp(x) s = Add(e, one) y = Log(s) }}",
        f"g {VECTOR} {{ y = Softplus(x) }}",
    ),
    "Swish": Case(
        "recognize{ops=[Swish]}",
        24,
        f"g {VECTOR} {{ s = Sigmoid(x) y = Mul(x, s) }}",
        f"g {VECTOR} {{ y = Swish(x) }}",
    ),
    "Swish with a factor": Case(
        "recognize{ops=[Swish]}",
        24,
        f"g {VECTOR} <float a = {{1.5}}> {{ t = Mul(x, a) s = Sigmoid(t) y = Mul(s, x) }}",
        f"g {VECTOR} {{ y = Swish<alpha = 1.5>(x) }}",
    ),
}

CASES |= {
    "Attention": Case(
        "recognize",
        23,
        f"g {QKV} <float c = {{0.5}}> {{ {SCORES} u = Mul(s, c) p = Softmax<axis = -1>(u) y = MatMul(p, v) }}",
        f"g {QKV} {{ y = Attention<scale = 0.5>(q, k, v) }}",
    ),
    "Attention without scale, the mask of full size": Case(
        "recognize",
        23,
        f"g {MASKED.replace('MASK', '2,1,S,T')} {{ {SCORES} u = Add(m, s) p = Softmax<axis = 3>(u) y = MatMul(p, v) }}",
        f"g {MASKED.replace('MASK', '2,1,S,T')} {{ y = Attention<scale = 1.0>(q, k, v, m) }}",
    ),
    "Attention, scales on q and k and scores, the mask of one row": Case(
        "recognize",
        23,
        f"g {MASKED.replace('MASK', '1,1,1,T')} <float a = {{0.5}}, float b = {{4.0}}> {{ o = Mul(q, a) "
        "t = Transpose<perm = [0, 1, 3, 2]>(k) w = Mul(t, a) s = MatMul(o, w) h = Div(s, b) u = Add(h, m) "
        "p = Softmax<axis = -1>(u) y = MatMul(p, v) }",
        f"g {MASKED.replace('MASK', '1,1,1,T')} <int64[2] mask_lead = {{1, 1}}> {{ "
        "Shape = Shape<start = 2, end = 3>(q) Shape_1 = Shape<start = 2, end = 3>(k) "
        "Concat = Concat<axis = 0>(mask_lead, Shape, Shape_1) Expand = Expand(m, Concat) "
        "y = Attention<scale = 0.0625>(q, k, v, Expand) }",
    ),
    "Attention with the split into heads": Case(
        "recognize",
        23,
        f"g {FLAT} <int64[4] split = {{0, 0, 2, 4}}, int64[3] whole = {{0, 0, 8}}, float c = {{0.5}}> {{ "
        "q4 = Reshape(q, split) qh = Transpose<perm = [0, 2, 1, 3]>(q4) "
        "k4 = Reshape(k, split) kh = Transpose<perm = [0, 2, 3, 1]>(k4) "
        "v4 = Reshape(v, split) vh = Transpose<perm = [0, 2, 1, 3]>(v4) "
        "s = MatMul(qh, kh) u = Mul(s, c) p = Softmax<axis = -1>(u) z = MatMul(p, vh) "
        "zt = Transpose<perm = [0, 2, 1, 3]>(z) y = Reshape(zt, whole) }",
        f"g {FLAT} {{ y = Attention<scale = 0.5, q_num_heads = 2, kv_num_heads = 2>(q, k, v) }}",
    ),
    "Attention with the split into heads and a mask": Case(
        "recognize",
        23,
        f"g {FLAT.replace(') =', ', float[S,S] m) =')} <int64[4] split = {{0, 0, 2, 4}}, int64[3] whole = {{0, 0, 8}}> "
        "{ q4 = Reshape(q, split) qh = Transpose<perm = [0, 2, 1, 3]>(q4) "
        "k4 = Reshape(k, split) kh = Transpose<perm = [0, 2, 3, 1]>(k4) "
        "v4 = Reshape(v, split) vh = Transpose<perm = [0, 2, 1, 3]>(v4) "
        "s = MatMul(qh, kh) u = Add(s, m) p = Softmax<axis = -1>(u) z = MatMul(p, vh) "
        "zt = Transpose<perm = [0, 2, 1, 3]>(z) y = Reshape(zt, whole) }",
        f"g {FLAT.replace(') =', ', float[S,S] m) =')} "
        "{ y = Attention<scale = 1.0, q_num_heads = 2, kv_num_heads = 2>(q, k, v, m) }",
    ),
}

NEAR_MISSES = {
    "clipped at five": (12, f"g {IO} <{SIX.replace('6.0', '5.0')}> {{ {CLIPPED} m = Mul(x, c) y = Div(m, six) }}"),
    "three and a half": (
        12,
        f"g {IO} <{SIX.replace('three = {3.0}', 'three = {3.5}')}> {{ {CLIPPED} m = Mul(x, c) y = Div(m, six) }}",
    ),
    "a sixth of four digits": (12, f"g {IO} <{SIX}, float r = {{0.1667}}> {{ {CLIPPED} m = Mul(x, c) y = Mul(m, r) }}"),
    "another factor": (12, f"g {IO} <{SIX}> {{ {CLIPPED} n = Neg(x) m = Mul(n, c) y = Div(m, six) }}"),
    "six over it": (12, f"g {IO} <{SIX}> {{ {CLIPPED} m = Mul(x, c) y = Div(six, m) }}"),
    "another slope": (14, f"g {IO} {{ s = HardSigmoid<alpha = 0.2>(x) y = Mul(x, s) }}"),
    "the slope of four digits": (14, f"g {IO} {{ s = HardSigmoid<alpha = 0.1667, beta = 0.5>(x) y = Mul(x, s) }}"),
    "epsilon outside the root": (
        17,
        f"g {NORM} <{EPS}> {{ {SPREAD.replace('e = Add(v, eps)', '')} s = Sqrt(v) e = Add(s, eps) y = Div(d, e) }}",
    ),
    "cubed": (17, f"g {NORM} <{EPS.replace('2.0', '3.0')}> {{ {SPREAD} s = Sqrt(e) y = Div(d, s) }}"),
    "not the last axis": (17, f"g {NORM} <{EPS}> {{ {SPREAD.replace('-1', '1')} s = Sqrt(e) y = Div(d, s) }}"),
    "two different axes": (
        17,
        f"g (float[4,4,4] x) => (float[4,4,4] y) <{EPS}> "
        f"{{ {SPREAD.replace('[-1]>(p)', '[1]>(p)')} s = Sqrt(e) y = Div(d, s) }}",
    ),
    "an open size": (
        17,
        f"g (float[N,S,D] x) => (float[N,S,D] y) <{EPS}> {{ {SPREAD} s = Sqrt(e) y = Div(d, s) }}",
    ),
    "the quotient upside down": (17, f"g {NORM} <{EPS}> {{ {SPREAD} s = Sqrt(e) y = Div(s, d) }}"),
    "the mean of another": (
        17,
        f"g {NORM} <{EPS}> {{ n = Neg(x) {SPREAD.replace('>(x)', '>(n)')} s = Sqrt(e) y = Div(d, s) }}",
    ),
    "the root of two of four digits": (
        20,
        f"g {VECTOR} <{ERF.replace('1.4142135623730951', '1.4142')}> {{ {ERF_SUM} m = Mul(x, s) y = Mul(m, half) }}",
    ),
    "times the root of two": (
        20,
        f"g {VECTOR} <{ERF}> {{ {ERF_SUM.replace('Div', 'Mul')} m = Mul(x, s) y = Mul(m, half) }}",
    ),
    "not halved": (20, f"g {VECTOR} <{ERF.replace('0.5', '0.25')}> {{ {ERF_SUM} m = Mul(x, s) y = Mul(m, half) }}"),
    "erf of another": (
        20,
        f"g {VECTOR} <{ERF}> {{ n = Abs(x) {ERF_SUM.replace('(x,', '(n,')} m = Mul(x, s) y = Mul(m, half) }}",
    ),
    "the cube has a short factor": (
        20,
        f"g {VECTOR} <{TANH.replace('0.044715', '0.0447')}> {{ {TANH_SUM} m = Mul(x, s) y = Mul(m, half) }}",
    ),
    "squared instead of cubed": (
        20,
        f"g {VECTOR} <{TANH.replace('three = {3.0}', 'three = {2.0}')}> {{ {TANH_SUM} m = Mul(x, s) "
        "y = Mul(m, half) }",
    ),
    "sigmoid of another": (24, f"g {VECTOR} {{ n = Neg(x) s = Sigmoid(n) y = Mul(x, s) }}"),
    "a factor for each element": (
        24,
        "g (float[N,2] x) => (float[N,2] y) <float[2] a = {1.0, 2.0}> { t = Mul(x, a) s = Sigmoid(t) y = Mul(x, s) }",
    ),
    "log of exp and two": (17, f"g {VECTOR} <float one = {{2.0}}> {{ e = Exp(x) s = Add(e, one) y = Log(s) }}"),
    "a constant of a higher rank": (
        14,
        "g (float[8] x) => (float[1,8] y) <float[1,1] three = {3.0}, float zero = {0.0}, float six = {6.0}> "
        f"{{ {CLIPPED} m = Mul(x, c) y = Div(m, six) }}",
    ),
}
"""What looks like one and is not: opset and graph, which stays as it is."""

_TAIL = "p = Softmax<axis = -1>(u) y = MatMul(p, v)"
NEAR_MISSES |= {
    "softmax over the rows": (
        23,
        f"g {QKV} <float c = {{0.5}}> {{ {SCORES} u = Mul(s, c) {_TAIL.replace('-1', '2')} }}",
    ),
    "a negative scale": (23, f"g {QKV} <float c = {{-0.5}}> {{ {SCORES} u = Mul(s, c) {_TAIL} }}"),
    "a scale over scores": (23, f"g {QKV} <float c = {{0.5}}> {{ {SCORES} u = Div(c, s) {_TAIL} }}"),
    "a scale for each head": (
        23,
        f"g {QKV} <float[2,1,1] c = {{0.5, 0.25}}> {{ {SCORES} u = Mul(s, c) {_TAIL} }}",
    ),
    "a mask of unknown batch": (23, f"g {MASKED.replace('MASK', 'N,1,S,T')} {{ {SCORES} u = Add(s, m) {_TAIL} }}"),
    "a mask of unknown rank": (
        23,
        f"g {MASKED.replace('MASK', '2,1,S,T').replace('m)', 'l, int64[R] r)')} "
        f"{{ m = Reshape(l, r) {SCORES} u = Add(s, m) {_TAIL} }}",
    ),
    "another transposition": (
        23,
        "g (float[2,2,S,4] q, float[2,2,4,T] k, float[2,2,T,4] v) => (float[2,2,S,4] y) "
        "{ t = Transpose<perm = [0, 1, 2, 3]>(k) s = MatMul(q, t) p = Softmax<axis = -1>(s) y = MatMul(p, v) }",
    ),
    "one head of k for all of q": (
        23,
        f"g {QKV.replace('float[2,2,T,4] k', 'float[2,1,T,4] k')} {{ {SCORES} p = Softmax<axis = -1>(s) "
        "y = MatMul(p, v) }",
    ),
    "rows of another name": (
        23,
        f"g {QKV.replace('float[2,2,T,4] v', 'float[2,2,U,4] v')} {{ {SCORES} p = Softmax<axis = -1>(s) "
        "y = MatMul(p, v) }",
    ),
}
