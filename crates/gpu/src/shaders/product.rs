//! The tiled product that most of a step is: one workgroup of 16 × 16 invocations makes a square tile of the result, each
//! of them its part in registers. Sums run over k in ascending order, one chain for each element of the result.
//!
//! The text is written out by this file, without inner loops, because compilers keep sums in registers only where no index
//! is computed.

use std::fmt::Write;

/// What is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// f32: the sum grows by left · right, fused.
    Values,
    /// Words of bits: the sum grows by the ones of left & right.
    Bits,
    /// As `Bits`, shifted by the shader's `weight(k)`; steps that its `skip` names are left out.
    WeightedBits,
}

/// The side of a workgroup's tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tile {
    /// 64: four by four results an invocation.
    Small,
    /// 128: eight by eight.
    Large,
}

impl Tile {
    /// Rows and columns.
    pub fn side(self) -> u32 {
        match self {
            Tile::Small => 64,
            Tile::Large => 128,
        }
    }

    /// Bytes of workgroup memory that the factors take.
    pub fn bytes(self) -> u32 {
        2 * DEPTH * (self.side() / 4 + 1) * 16
    }
}

/// How the text of a product is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    pub tile: Tile,
    /// Whether factors are rounded to half floats.
    pub half: bool,
}

/// How a product reads its factors.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    pub kind: Kind,
    /// Whether the left factor lies in memory along k; else along its rows.
    pub left_along_k: bool,
    /// Whether the right factor lies along k; else along its columns.
    pub right_along_k: bool,
}

/// Steps of k that are in workgroup memory at once.
pub const DEPTH: u32 = 16;

/// Steps of k that are written out: every loop costs its counters, and wgpu's guard against endless ones.
const UNROLLED: u32 = 4;

impl Product {
    /// The WGSL text. It calls the shader's `shape`, `left`, `right` and `store` (or `store4`), and where there are
    /// such, `left_out` before all and `finish` after it.
    pub fn source(self, Form { tile, half }: Form, shader: &str) -> String {
        let groups = tile.side() / 4;
        let (quarters, stride) = (groups / 16, groups + 1);
        let (stored, factor) = match (self.kind, half) {
            (Kind::Values, false) => ("vec4f", "vec4f"),
            (Kind::Values, true) => ("vec4<f16>", "vec4f"),
            (Kind::Bits | Kind::WeightedBits, _) => ("vec4u", "vec4u"),
        };
        let sum = factor;
        let mut text = String::new();
        let mut line = |line: String| writeln!(text, "{line}").expect("a string takes all");
        line(format!("const TILE = {}u;\nconst DEPTH = {DEPTH}u;", tile.side()));
        for side in ["left", "right"] {
            line(format!("var<workgroup> {side}s: array<{stored}, {}>;", DEPTH * stride));
        }
        for (side, arguments, call) in [
            ("left", "at: u32, k: u32, rows: u32, depth: u32", "at + NUMBERu, k"),
            ("right", "at: u32, k: u32, rows: u32, depth: u32", "k, at + NUMBERu"),
        ] {
            line(format!(
                "fn {side}4({arguments}) -> {factor} {{\n  var value = {factor}();\n  if (k >= depth) {{ return value; }}"
            ));
            for (number, place) in ["x", "y", "z", "w"].iter().enumerate() {
                let call = call.replace("NUMBER", &number.to_string());
                line(format!("  if (at + {number}u < rows) {{ value.{place} = {side}({call}); }}"));
            }
            line("  return value;\n}".into());
        }
        if !shader.contains("fn store4") {
            line(format!(
                "fn store4(row: u32, column: u32, value: {sum}) {{\n  let size = shape();\n  if (row >= size.x) {{ return; }}"
            ));
            for (number, place) in ["x", "y", "z", "w"].iter().enumerate() {
                line(format!(
                    "  if (column + {number}u < size.y) {{ store(row, column + {number}u, value.{place}); }}"
                ));
            }
            line("}".into());
        }
        line(MAIN.into());
        if shader.contains("fn left_out") {
            line("  if (left_out(group, groups, index)) { return; }".into());
        }
        let rows = quarters * 4;
        for row in 0..rows {
            for quarter in 0..quarters {
                line(format!("  var s{row}_{quarter} = {sum}();"));
            }
        }
        // what goes to workgroup memory: (variable, where to, where from)
        let mut loads = vec![];
        for (side, along_k, first, limit) in [
            ("left", self.left_along_k, "first_row", "size.x"),
            ("right", self.right_along_k, "first_column", "size.y"),
        ] {
            for quarter in 0..quarters {
                let slot = format!("(index + {}u)", quarter * 256);
                let (k, at) = if along_k {
                    (format!("{slot} % DEPTH"), format!("{slot} / DEPTH"))
                } else {
                    (format!("{slot} / {groups}u"), format!("{slot} % {groups}u"))
                };
                let to = format!("{side}s[({k}) * {stride}u + ({at})]");
                let from =
                    |k0: &str| format!("{side}4({first} + 4u * ({at}), {k0} + ({k}), {limit}, size.z)");
                loads.push((format!("{side}_{quarter}"), to, from("0u"), from("k0 + DEPTH"), from("k0")));
            }
        }
        // the next part of the factors is on its way while the last one is worked on; not where parts are left out
        let ahead = self.kind != Kind::WeightedBits;
        for (variable, _, first, ..) in loads.iter().filter(|_| ahead) {
            line(format!("  var {variable} = {first};"));
        }
        line("  for (var k0 = 0u; k0 < size.z; k0 += DEPTH) {".into());
        if self.kind == Kind::WeightedBits {
            line("    if (skip(group, k0)) { continue; }\n    let shift = weight(k0);".into());
        }
        for (variable, to, _, _, here) in &loads {
            line(format!("    {to} = {stored}({});", if ahead { variable } else { here }));
        }
        line("    workgroupBarrier();".into());
        for (variable, _, _, next, _) in loads.iter().filter(|_| ahead) {
            line(format!("    {variable} = {next};"));
        }
        line(format!("    for (var k1 = 0u; k1 < DEPTH; k1 += {UNROLLED}u) {{"));
        for step in 0..UNROLLED {
            line(format!("      {{\n      let k = k1 + {step}u;"));
            for quarter in 0..quarters {
                line(format!(
                    "      let a{quarter} = {factor}(lefts[k * {stride}u + {}u + at.y]);",
                    quarter * 16
                ));
                line(format!(
                    "      let b{quarter} = {factor}(rights[k * {stride}u + {}u + at.x]);",
                    quarter * 16
                ));
            }
            for row in 0..rows {
                for quarter in 0..quarters {
                    let (a, name) = (["x", "y", "z", "w"][row as usize % 4], format!("s{row}_{quarter}"));
                    let left = format!("a{}.{a}", row / 4);
                    line(match self.kind {
                        Kind::Values => format!("      {name} = fma(vec4f({left}), b{quarter}, {name});"),
                        Kind::Bits => format!("      {name} += countOneBits(vec4u({left}) & b{quarter});"),
                        Kind::WeightedBits => {
                            format!("      {name} += countOneBits(vec4u({left}) & b{quarter}) << shift;")
                        }
                    });
                }
            }
            line("      }".into());
        }
        line("    }\n    workgroupBarrier();\n  }".into());
        for row in 0..rows {
            for quarter in 0..quarters {
                line(format!(
                    "  store4(first_row + {}u + 4u * at.y, first_column + {}u + 4u * at.x, s{row}_{quarter});",
                    (row / 4) * 64 + row % 4,
                    quarter * 64
                ));
            }
        }
        if shader.contains("fn finish") {
            line("  finish(group, groups, index);".into());
        }
        line("}".into());
        text
    }
}

const MAIN: &str = "\
@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_id) at: vec3u, @builtin(local_invocation_index) index: u32) {
  let size = shape();
  let first_row = group.y * TILE;
  let first_column = group.x * TILE;";
