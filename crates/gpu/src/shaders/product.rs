//! The tiled product that most of a step is: one workgroup of 16 × 16 invocations makes a square tile of the result, each
//! of them its part in registers. Sums run over k in ascending order, one chain for each element of the result.
//!
//! The text is written out by this file, without inner loops, because compilers keep sums in registers only where no index
//! is computed.

/// What is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// f32: the sum grows by left · right, fused.
    Values,
    /// Words of bits: the sum grows by the ones of left & right.
    Bits,
    /// As `Bits`; steps that the shader's `skip` names are left out, and at the step that its `doubles` names all sums so far
    /// are doubled.
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

    /// Whether workgroups with so much memory can make it: the factors, and what signs.wgsl keeps besides.
    pub fn fits(self, workgroup_bytes: u32) -> bool {
        const SIGNS: u32 = 5120;
        2 * DEPTH * (self.side() / 4 + 1) * 16 + SIGNS <= workgroup_bytes
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

impl Product {
    /// The WGSL text. It calls the shader's `shape`, `left`, `right` and `store` (or `store4`), and where there are
    /// such, `lift_left` or `lift_right` on factors that come in, `left_out` before all and `finish` after it.
    pub fn source(self, Form { tile, half }: Form, shader: &str) -> String {
        let (stored, factor) = match (self.kind, half) {
            (Kind::Values, false) => ("vec4f", "vec4f"),
            (Kind::Values, true) => ("vec4<f16>", "vec4f"),
            (Kind::Bits | Kind::WeightedBits, _) => ("vec4u", "vec4u"),
        };
        Text { product: self, tile, stored, factor, shader, text: String::new() }.written()
    }
}

/// A text in the making.
struct Text<'a> {
    product: Product,
    tile: Tile,
    /// Type of four factors in workgroup memory.
    stored: &'static str,
    /// Type of four factors, and of four sums, in registers.
    factor: &'static str,
    shader: &'a str,
    text: String,
}

/// Four neighbours of a factor, on their way into workgroup memory.
struct Load {
    side: &'static str,
    variable: String,
    /// Step of k and group of four, in workgroup memory.
    k: String,
    group: String,
}

impl Load {
    /// The value at a step of k.
    fn from(&self, k0: &str) -> String {
        let (first, limit) = match self.side {
            "left" => ("first_row", "size.x"),
            _ => ("first_column", "size.y"),
        };
        let Self { side, k, group, .. } = self;
        format!("{side}4({first} + 4u * ({group}), {k0} + {k}, {limit}, size.z)")
    }
}

impl Text<'_> {
    fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    /// Groups of four rows or columns in a tile.
    fn groups(&self) -> u32 {
        self.tile.side() / 4
    }

    /// Groups of four that an invocation has of each side.
    fn quarters(&self) -> u32 {
        self.groups() / 16
    }

    /// Sums of an invocation: (name, row, quarter).
    fn sums(&self) -> Vec<(String, u32, u32)> {
        let rows = 0..4 * self.quarters();
        rows.flat_map(|row| (0..self.quarters()).map(move |at| (format!("s{row}_{at}"), row, at))).collect()
    }

    fn written(mut self) -> String {
        let factor = self.factor;
        self.line(format!("const TILE = {}u;\nconst DEPTH = {DEPTH}u;", self.tile.side()));
        self.reading();
        self.storing();
        self.line(MAIN);
        if self.shader.contains("fn left_out") {
            self.line("  if (left_out(group, groups, index)) { return; }");
        }
        for (name, ..) in self.sums() {
            self.line(format!("  var {name} = {factor}();"));
        }
        self.steps();
        for (name, row, quarter) in self.sums() {
            let (row, column) = ((row / 4) * 64 + row % 4, quarter * 64);
            self.line(format!(
                "  store4(first_row + {row}u + 4u * at.y, first_column + {column}u + 4u * at.x, {name});"
            ));
        }
        if self.shader.contains("fn finish") {
            self.line("  finish(group, groups, index);");
        }
        self.line("}");
        self.text
    }

    /// Workgroup memory, and functions that read four neighbours for it. Nothing is asked of what is read, so that reading can
    /// go on while something else is computed: rows behind the last repeat it, for what they give is not stored, and steps of k
    /// behind the last are made 0 when they are stored.
    fn reading(&mut self) {
        let (stored, factor, stride) = (self.stored, self.factor, self.groups() + 1);
        for (side, call) in
            [("left", "min(at + NUMBERu, rows - 1u), step"), ("right", "step, min(at + NUMBERu, rows - 1u)")]
        {
            let element = |number: u32| format!("{side}({})", call.replace("NUMBER", &number.to_string()));
            let elements = [0, 1, 2, 3].map(element).join(", ");
            self.line(format!("var<workgroup> {side}s: array<array<{stored}, {stride}>, {DEPTH}>;"));
            self.line(format!("fn {side}4(at: u32, k: u32, rows: u32, depth: u32) -> {factor} {{"));
            self.line(format!("  let step = min(k, depth - 1u);\n  return {factor}({elements});\n}}"));
        }
    }

    /// A function that stores four neighbours of a row, unless the shader has its own.
    fn storing(&mut self) {
        if self.shader.contains("fn store4") {
            return;
        }
        self.line(format!("fn store4(row: u32, column: u32, value: {}) {{", self.factor));
        self.line("  let size = shape();\n  if (row >= size.x) { return; }");
        for (number, place) in ["x", "y", "z", "w"].iter().enumerate() {
            self.line(format!(
                "  if (column + {number}u < size.y) {{ store(row, column + {number}u, value.{place}); }}"
            ));
        }
        self.line("}");
    }

    fn loads(&self) -> Vec<Load> {
        let sides = [("left", self.product.left_along_k), ("right", self.product.right_along_k)];
        let load = |side, along_k, quarter: u32| {
            let (slot, groups) = (format!("(index + {}u)", quarter * 256), self.groups());
            let (k, group) = if along_k {
                (format!("({slot} % DEPTH)"), format!("({slot} / DEPTH)"))
            } else {
                (format!("({slot} / {groups}u)"), format!("({slot} % {groups}u)"))
            };
            Load { side, variable: format!("{side}_{quarter}"), k, group }
        };
        sides
            .into_iter()
            .flat_map(|(side, along_k)| (0..self.quarters()).map(move |at| (side, along_k, at)))
            .map(|(side, along_k, at)| load(side, along_k, at))
            .collect()
    }

    /// All steps of k.
    fn steps(&mut self) {
        let (stored, factor, loads) = (self.stored, self.factor, self.loads());
        let weighted = self.product.kind == Kind::WeightedBits;
        // the next part of the factors is on its way while the last one is worked on; not where parts are left out
        for load in loads.iter().filter(|_| !weighted) {
            self.line(format!("  var {} = {};", load.variable, load.from("0u")));
        }
        self.line("  for (var k0 = 0u; k0 < size.z; k0 += DEPTH) {");
        if weighted {
            self.line("    if (doubles(k0)) {");
            for (name, ..) in self.sums() {
                self.line(format!("      {name} *= 2u;"));
            }
            self.line("    }\n    if (skip(group, k0)) { continue; }");
        }
        for load in &loads {
            let Load { side, variable, k, group } = load;
            let value = if weighted { load.from("k0") } else { variable.clone() };
            let lift = format!("lift_{side}");
            let value = if self.shader.contains(&lift) { format!("{lift}({value})") } else { value };
            self.line(format!(
                "    {side}s[{k}][{group}] = {stored}(select({factor}(), {value}, k0 + {k} < size.z));"
            ));
        }
        self.line("    workgroupBarrier();");
        for load in loads.iter().filter(|_| !weighted) {
            self.line(format!("    {} = {};", load.variable, load.from("k0 + DEPTH")));
        }
        // written out: a constant index is not checked, and every loop costs its counters and wgpu's guard against endless ones
        for k in 0..DEPTH {
            self.line("    {");
            for at in 0..self.quarters() {
                self.line(format!("      let a{at} = {factor}(lefts[{k}][{}u + at.y]);", at * 16));
                self.line(format!("      let b{at} = {factor}(rights[{k}][{}u + at.x]);", at * 16));
            }
            for (name, row, quarter) in self.sums() {
                let left = format!("{factor}(a{}.{})", row / 4, ["x", "y", "z", "w"][row as usize % 4]);
                self.line(match self.product.kind {
                    Kind::Values => format!("      {name} = fma({left}, b{quarter}, {name});"),
                    _ => format!("      {name} += countOneBits({left} & b{quarter});"),
                });
            }
            self.line("    }");
        }
        self.line("    workgroupBarrier();\n  }");
    }
}

const MAIN: &str = "\
@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_id) at: vec3u, @builtin(local_invocation_index) index: u32) {
  let size = shape();
  let first_row = group.y * TILE;
  let first_column = group.x * TILE;";
