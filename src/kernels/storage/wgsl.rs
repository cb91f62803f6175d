//! The WGSL text of loads and stores.
//!
//! Templates write `x[i]` for element `i`, or vector `i`, of the tensor in slot `x`. For a storage of words that is WGSL
//! already. In any other storage a word of the array holds several elements, and each `x[i]` becomes a call:
//!
//! ```text
//! y[o] = a[i] + b[i];        y_store(u32(o), a_load(u32(i)) + b_load(u32(i)));
//! y[o] += 1.0;               y_store(u32(o), y_load(u32(o)) + (1.0));
//! y[v].x = out.x;            y_store_component(u32(v), 0u, out.x);
//! ```

use std::collections::BTreeSet;

use super::Storage;
use crate::kernels::expr::Scalar;
use crate::kernels::{Slot, SlotElement};

impl Storage {
    /// The WGSL type of the array elements of a slot's binding.
    pub(in crate::kernels) fn array_element(self, slot: &Slot) -> String {
        match (self, slot.element) {
            (Storage::Word, element) => element.wgsl(),
            (Storage::Wide, element) if element.scalar() == Scalar::F64 => element.wgsl(),
            (Storage::Wide, SlotElement::Vector(_)) => "vec4<u64>".into(),
            (Storage::Wide, _) => "u64".into(),
            (Storage::Narrow { .. }, _) => "u32".into(),
            (_, SlotElement::Vector(_)) => "vec2<u32>".into(),
            _ if slot.written => "atomic<u32>".into(),
            _ => "u32".into(),
        }
    }

    /// WGSL of the register's value, from the u32 `bits`, whose lower half is the element. `converts`: whether the driver
    /// converts float16.
    fn decoded(self, bits: &str, converts: bool) -> String {
        match self {
            Storage::F16 if converts => format!("unpack2x16float({bits}).x"),
            Storage::F16 => format!("f16_value({bits})"),
            Storage::BF16 => format!("bitcast<f32>({bits} << 16u)"),
            Storage::Half => format!("({bits} & 0xffffu)"),
            Storage::Word | Storage::Wide => bits.into(),
            Storage::Narrow { bits: width, signed: false } => format!("extractBits({bits}, 0u, {width}u)"),
            Storage::Narrow { bits: width, signed: true } => {
                format!("extractBits(bitcast<i32>({bits}), 0u, {width}u)")
            }
        }
    }

    /// WGSL of a u32 whose lower half has the bits in memory of `value`; its upper half may have any bits.
    fn encoded(self, value: &str) -> String {
        match self {
            Storage::F16 => format!("f16_bits({value})"),
            Storage::BF16 => format!("bf16_bits({value})"),
            Storage::Half | Storage::Word | Storage::Wide | Storage::Narrow { .. } => value.into(),
        }
    }

    /// The functions whose calls replace `x[i]` for slot `x`. `used` collects the functions of `shaders/math.wgsl` that they
    /// call.
    fn functions(self, slot: &Slot, converts: bool, used: &mut BTreeSet<&'static str>) -> String {
        if self == Storage::F16 && !converts {
            used.insert("f16_value");
        }
        match self {
            Storage::F16 if slot.written => drop(used.insert("f16_bits")),
            Storage::BF16 if slot.written => drop(used.insert("bf16_bits")),
            _ => {}
        }
        let (name, register) = (&slot.name, slot.element.wgsl());
        if let Storage::Narrow { bits, .. } = self {
            return self.narrow_load(slot, u32::from(bits));
        }
        let load = match slot.element {
            SlotElement::Vector(_) => {
                let parts =
                    ["w.x", "(w.x >> 16u)", "w.y", "(w.y >> 16u)"].map(|bits| self.decoded(bits, converts));
                format!("  let w = {name}[i];\n  return {register}({});\n", parts.join(", "))
            }
            _ => {
                let word = format!("{name}[i / 2u]");
                let word = if slot.written { format!("atomicLoad(&{word})") } else { word };
                format!("  return {};\n", self.decoded(&format!("({word} >> (i % 2u * 16u))"), converts))
            }
        };
        let load = format!("fn {name}_load(i: u32) -> {register} {{\n{load}}}\n");
        if slot.written { load + &self.stores(slot) } else { load }
    }

    /// Loads an element, or a vector of four, from a word of several integers.
    fn narrow_load(self, slot: &Slot, bits: u32) -> String {
        let (name, register) = (&slot.name, slot.element.wgsl());
        let word = slot.element.scalar().word();
        // A float register holds the number, an integer register its bits.
        let to = if word == "f32" { "f32".into() } else { format!("bitcast<{word}>") };
        let element = |shifted: &str| format!("{to}({})", self.decoded(shifted, false));
        let (loads, value) = match slot.element {
            SlotElement::Vector(_) => {
                let parts = [0, 1, 2, 3].map(|lane| element(&format!("(w >> {}u)", lane * bits)));
                (32 / (4 * bits), format!("{register}({})", parts.join(", ")))
            }
            _ => (32 / bits, element("w")),
        };
        let shift = 32 / loads;
        format!(
            "fn {name}_load(i: u32) -> {register} {{\n  \
             let w = {name}[i / {loads}u] >> (i % {loads}u * {shift}u % 32u);\n  return {value};\n}}\n"
        )
    }

    fn stores(self, slot: &Slot) -> String {
        let (name, word) = (&slot.name, slot.element.scalar().word());
        match slot.element {
            SlotElement::Vector(_) => {}
            SlotElement::Run(_, most) => {
                return self.half_store(name, word) + &self.run_store(name, word, most);
            }
            _ => return self.half_store(name, word),
        }
        let lanes = [0, 1, 2, 3].map(|lane| self.encoded(&format!("value[{lane}]")));
        let pair = |low: &str, high: &str| format!("insertBits({low}, {high}, 16u, 16u)");
        let pairs = [pair(&lanes[0], &lanes[1]), pair(&lanes[2], &lanes[3])].join(", ");
        let encoded = self.encoded("value");
        // A vector that is shared with the next tensor: one invocation stores those of its components that are this tensor's.
        // Results and parts begin at vectors, so no other invocation of the kernel stores into this one.
        format!(
            "fn {name}_store(i: u32, value: vec4<{word}>) {{\n  {name}[i] = vec2<u32>({pairs});\n}}\n\
             fn {name}_store_component(i: u32, lane: u32, value: {word}) {{\n  let before = {name}[i][lane / 2u];\n  \
             {name}[i][lane / 2u] = insertBits(before, {encoded}, lane % 2u * 16u, 16u);\n}}\n"
        )
    }

    /// The word's other half may belong to another invocation, which may write it at any time. Nobody else writes this half: it
    /// still has the bits that were loaded, and an xor with the difference to the new bits changes this half alone.
    fn half_store(self, name: &str, word: &str) -> String {
        let encoded = self.encoded("value");
        format!(
            "fn {name}_store(i: u32, value: {word}) {{\n  let shift = i % 2u * 16u;\n  \
             let before = atomicLoad(&{name}[i / 2u]) >> shift;\n  \
             atomicXor(&{name}[i / 2u], ((before ^ {encoded}) & 0xffffu) << shift);\n}}\n"
        )
    }

    /// Stores the first `count` of `most` values; `count` is at least 1. Words that belong to this invocation alone are written
    /// whole, without an atomic operation. The run may begin with the upper half of a word, and end with the lower half.
    fn run_store(self, name: &str, word: &str, most: usize) -> String {
        let mut text = format!(
            "fn {name}_store_run(i: u32, count: u32, values: array<{word}, {most}>) {{\n  \
             let odd = i % 2u == 1u;\n  let first = (i + 1u) / 2u;\n  let whole = count - i % 2u;\n"
        );
        for e in 0..most {
            text += &format!("  let h{e} = {};\n", self.encoded(&format!("values[{e}]")));
        }
        for e in (0..most - 1).step_by(2) {
            // Elements e and e + 1; where the run begins in an upper half, e + 1 and e + 2.
            let third = if e + 2 < most { format!("h{}", e + 2) } else { "0u".into() };
            text += &format!(
                "  if {e}u + 1u < whole {{\n    let pair = select(vec2<u32>(h{e}, h{next}), vec2<u32>(h{next}, {third}), odd);\n    \
                 atomicStore(&{name}[first + {half}u], insertBits(pair.x, pair.y, 16u, 16u));\n  }}\n",
                next = e + 1,
                half = e / 2,
            );
        }
        text += "  var last = values[0];\n";
        for e in 1..most {
            text += &format!("  if {e}u < count {{ last = values[{e}]; }}\n");
        }
        text + &format!(
            "  if odd {{ {name}_store(i, values[0]); }}\n  \
             if whole % 2u == 1u {{ {name}_store(i + count - 1u, last); }}\n}}\n"
        )
    }
}

/// The text, with a call for each `x[i]` of a slot whose elements are not words, and the functions that are called. `used`
/// gets the functions of `shaders/math.wgsl` that those may call. `converts`: whether the driver converts float16.
pub(in crate::kernels) fn accessed(
    text: String,
    slots: &[(Slot, Storage)],
    converts: bool,
    used: &mut BTreeSet<&'static str>,
) -> String {
    let packed: Vec<&(Slot, Storage)> = slots.iter().filter(|slot| !slot.1.is_plain()).collect();
    if packed.is_empty() {
        return text;
    }
    let functions: String =
        packed.iter().map(|(slot, storage)| storage.functions(slot, converts, used)).collect();
    let names: Vec<&str> = packed.iter().map(|(slot, _)| slot.name.as_str()).collect();
    let calls = called(&text, &names);
    // Without this, functions that the kernel does not call would be part of its text.
    functions_called(&functions, &calls) + &calls
}

/// The functions without those that neither `text` nor another of them calls.
fn functions_called(functions: &str, text: &str) -> String {
    let mut kept = String::new();
    for part in functions.split_inclusive("\n}\n").collect::<Vec<_>>().into_iter().rev() {
        // Functions stand before those that call them.
        let calls = |name: &str| [text, &kept].iter().any(|text| text.contains(&format!("{name}(")));
        if part[3..].split_once('(').is_some_and(|(name, _)| calls(name)) {
            kept.insert_str(0, part);
        }
    }
    kept
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The text, with a call for each access to an array that has one of `names`.
fn called(text: &str, names: &[&str]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, name, inside, after)) = next_access(rest, names) {
        out += before;
        let index = format!("u32({})", called(inside, names));
        let (component, after_component) = component(after);
        match assignment(after_component) {
            Some((operator, value, after)) => {
                let value = called(value.trim(), names);
                out += &match (component, operator) {
                    (Some(lane), _) => format!("{name}_store_component({index}, {lane}u, {value})"),
                    (None, "") => format!("{name}_store({index}, {value})"),
                    (None, operator) => {
                        format!("{name}_store({index}, {name}_load({index}) {operator} ({value}))")
                    }
                };
                rest = after;
            }
            None => {
                out += &format!("{name}_load({index})");
                rest = after;
            }
        }
    }
    out + rest
}

/// The first access in the text: what stands before it, the array's name, the index, and what stands after it.
fn next_access<'t>(text: &'t str, names: &[&'t str]) -> Option<(&'t str, &'t str, &'t str, &'t str)> {
    for (open, _) in text.match_indices('[') {
        let start = text[..open].rfind(|c| !is_word(c)).map_or(0, |at| at + 1);
        let Some(name) = names.iter().find(|name| **name == &text[start..open]) else { continue };
        let close = closing(&text[open..])? + open;
        return Some((&text[..start], name, &text[open + 1..close], &text[close + 1..]));
    }
    None
}

/// The position of the bracket that closes the bracket at the beginning of the text.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    text.char_indices().find_map(|(at, c)| {
        depth += i32::from(c == '[') - i32::from(c == ']');
        (depth == 0).then_some(at)
    })
}

/// The number of the component that stands at the beginning of the text (1 for `.y`), and the text after it.
fn component(text: &str) -> (Option<usize>, &str) {
    let lane = |name: char| "xyzw".find(name);
    let mut chars = text.chars();
    match (chars.next(), chars.next().and_then(lane)) {
        (Some('.'), Some(lane)) if !chars.as_str().starts_with(is_word) => (Some(lane), chars.as_str()),
        _ => (None, text),
    }
}

/// If the text goes on with an assignment: the operator before `=`, the value, and the text from the semicolon on.
fn assignment(text: &str) -> Option<(&str, &str, &str)> {
    let text = text.trim_start();
    let operator = if text.starts_with(['+', '-', '*', '/']) { &text[..1] } else { "" };
    let value = text[operator.len()..].strip_prefix('=').filter(|value| !value.starts_with('='))?;
    let end = value.find(';')?;
    Some((operator, &value[..end], &value[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_become_calls() {
        let calls = |text: &str| called(text, &["x", "y", "at"]);
        assert_eq!(calls("let v = x[i / 4u][2];"), "let v = x_load(u32(i / 4u))[2];");
        assert_eq!(calls("let v = x[u32(y[o])].x;"), "let v = x_load(u32(u32(y_load(u32(o))))).x;");
        assert_eq!(calls("y[o] = x[o] == x[a[1]];"), "y_store(u32(o), x_load(u32(o)) == x_load(u32(a[1])));");
        assert_eq!(calls("y[o]+= -x[0];"), "y_store(u32(o), y_load(u32(o)) + (-x_load(u32(0))));");
        assert_eq!(
            calls("if o < 2u { y[v].y = out.y; }"),
            "if o < 2u { y_store_component(u32(v), 1u, out.y); }"
        );
        assert_eq!(calls("if y[o] <= x[0] {}"), "if y_load(u32(o)) <= x_load(u32(0)) {}");
        for other in ["xx[i] = x0[i] + ax[i];", "let x = 1; // [rows]", "array<x>"] {
            assert_eq!(calls(other), other);
        }
    }
}
