"""The step as an ONNX graph, written by hand in ONNX's own notation: ONNX Runtime for Node runs graphs, it makes no gradients.

    python onnx_graph.py float|bytes N D_IN D_SAE ENTROPY_WEIGHT COVARIANCE_WEIGHT OUT.onnx

`bytes` makes the two products of the covariance in 8-bit integers, which is exact.
Parameters and both of Adam's moments go in and come out. `rate` and `root` hold Adam's bias corrections of the step.
"""

import sys

import onnx
from onnx.parser import parse_model



COUNTS = {
    "float": "counts = Gemm <transA: int = 1> (h, h)",
    "bytes": """bytes = Cast <to: int = 2> (bits)
   columns_of_bytes = Transpose (bytes)
   integer_counts = MatMulInteger (columns_of_bytes, bytes)
   counts = Cast <to: int = 1> (integer_counts)""",
}

THROUGH = {
    "float": "through_all = MatMul (h, signs)",
    "bytes": """sign_bytes = Cast <to: int = 3> (signs)
   integer_through = MatMulInteger (bytes, sign_bytes)
   through_all = Cast <to: int = 1> (integer_through)""",
}


def text(products, n, d_in, d_sae, entropy_weight, covariance_weight):
    shapes = {
        "W_enc": f"{d_in},{d_sae}",
        "b_enc": f"{d_sae}",
        "W_dec": f"{d_sae},{d_in}",
        "b_dec": f"{d_in}",
    }
    inputs = [f"float[{n},{d_in}] x", "float rate", "float root"]
    outputs = [f"float {name}" for name in ("loss", "mse", "entropy", "covariance")]
    updates = ""
    for name, shape in shapes.items():
        inputs += [f"float[{shape}] {part}_{name}" for part in ("p", "m", "v")]
        outputs += [f"float[{shape}] {part}_{name}" for part in ("new_p", "new_m", "new_v")]
        updates += f"""
   kept_m_{name} = Mul (p9, m_{name})
   moved_m_{name} = Mul (p1, grad_{name})
   new_m_{name} = Add (kept_m_{name}, moved_m_{name})
   kept_v_{name} = Mul (p999, v_{name})
   square_{name} = Mul (grad_{name}, grad_{name})
   moved_v_{name} = Mul (p001, square_{name})
   new_v_{name} = Add (kept_v_{name}, moved_v_{name})
   sqrt_v_{name} = Sqrt (new_v_{name})
   over_root_{name} = Div (sqrt_v_{name}, root)
   divisor_{name} = Add (over_root_{name}, adam_epsilon)
   scaled_m_{name} = Mul (rate, new_m_{name})
   change_{name} = Div (scaled_m_{name}, divisor_{name})
   new_p_{name} = Sub (p_{name}, change_{name})
"""
    constants = {
        "p9": 0.9, "p1": 0.1, "p999": 0.999, "p001": 0.001, "adam_epsilon": 1e-8, "epsilon": 1e-10, "zero": 0.0, "one": 1.0,
        "ln2": 0.6931471805599453, "n": n, "per_output": 2 / (n * d_in), "outputs": n * d_in, "pairs": n * (n - 1),
        "entropy_weight": entropy_weight, "entropy_scale": entropy_weight / n, "covariance_weight": covariance_weight,
        "covariance_n": 2 * covariance_weight / (n - 1), "covariance_1": 2 * covariance_weight / (n * (n - 1)),
    }  # fmt: skip
    named = "\n".join(
        f"   {name} = Constant <value_float: float = {value:.17f}> ()" for name, value in constants.items()
    )
    return f"""
<ir_version: 9, opset_import: ["" : 18]>
step ({", ".join(inputs)}) => ({", ".join(outputs)})
{{
{named}
   rows = Constant <value_ints: ints = [0]> ()
   z = Gemm (x, p_W_enc, p_b_enc)
   bits = Greater (z, zero)
   h = Cast <to: int = 1> (bits)
   y = Gemm (h, p_W_dec, p_b_dec)
   error = Sub (y, x)
   squares_by_column = ReduceSumSquare <keepdims: int = 0> (error, rows)
   squares = ReduceSum <keepdims: int = 0> (squares_by_column)
   mse = Div (squares, outputs)
   grad_y = Mul (error, per_output)
   grad_W_dec = Gemm <transA: int = 1> (h, grad_y)
   grad_b_dec = ReduceSum <keepdims: int = 0> (grad_y, rows)

   s = ReduceSum <keepdims: int = 0> (h, rows)
   p = Div (s, n)
   q = Sub (one, p)
   near_p = Add (p, epsilon)
   near_q = Add (q, epsilon)
   ln_p = Log (near_p)
   ln_q = Log (near_q)
   p_ln_p = Mul (p, ln_p)
   q_ln_q = Mul (q, ln_q)
   both = Add (p_ln_p, q_ln_q)
   nats = ReduceSum <keepdims: int = 0> (both)
   positive = Neg (nats)
   entropy = Div (positive, ln2)
   ratio_p = Div (p, near_p)
   ratio_q = Div (q, near_q)
   slope_ln = Sub (ln_q, ln_p)
   slope_ratio = Sub (ratio_q, ratio_p)
   slope_nats = Add (slope_ln, slope_ratio)
   slope = Div (slope_nats, ln2)
   entropy_pull = Mul (slope, entropy_scale)

   {COUNTS[products]}
   scaled_counts = Mul (counts, n)
   s_row = Unsqueeze (s, rows)
   one_axis = Constant <value_ints: ints = [1]> ()
   s_column = Unsqueeze (s, one_axis)
   expected = Mul (s_column, s_row)
   D = Sub (scaled_counts, expected)
   columns = ReduceL1 <keepdims: int = 0> (D, rows)
   whole = ReduceSum <keepdims: int = 0> (columns)
   off = Sub (n, s)
   variances = Mul (s, off)
   diagonal = ReduceSum <keepdims: int = 0> (variances)
   off_diagonal = Sub (whole, diagonal)
   covariance = Div (off_diagonal, pairs)
   signs = Sign (D)
   varies = Sign (variances)
   {THROUGH[products]}
   through_self = Mul (h, varies)
   through = Sub (through_all, through_self)
   totals = ReduceSum <keepdims: int = 0> (through, rows)
   covariance_each = Mul (through, covariance_n)
   covariance_mean = Mul (totals, covariance_1)
   feature_pull = Sub (entropy_pull, covariance_mean)

   decoded = Gemm <transB: int = 1> (grad_y, p_W_dec)
   with_covariance = Add (decoded, covariance_each)
   g = Add (with_covariance, feature_pull)
   g_squared = Mul (g, g)
   grad_z = Sub (g, g_squared)
   grad_W_enc = Gemm <transA: int = 1> (x, grad_z)
   grad_b_enc = ReduceSum <keepdims: int = 0> (grad_z, rows)

   entropy_part = Mul (entropy, entropy_weight)
   covariance_part = Mul (covariance, covariance_weight)
   penalty = Add (entropy_part, covariance_part)
   loss = Add (mse, penalty)
{updates}
}}
"""


if __name__ == "__main__":
    products, *numbers, out = sys.argv[1:]
    model = parse_model(text(products, *map(int, numbers[:3]), *map(float, numbers[3:])))
    onnx.checker.check_model(model)
    onnx.save(model, out)
