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
use crate::DType;
use crate::kernels::{Slot, SlotElement};
use crate::small::Format;

impl Storage {
    /// Bits of an element, as WGSL counts them.
    fn width(self) -> u32 {
        self.bits() as u32
    }

    /// Elements of a word.
    fn in_word(self) -> u32 {
        32 / self.width()
    }

    /// The WGSL type of the array elements of a slot's binding.
    pub(in crate::kernels) fn array_element(self, slot: &Slot) -> String {
        match (self, slot.element) {
            (Storage::Word, element) => element.wgsl(),
            (Storage::Wide, element) if element.scalar().is_wide() => element.wgsl(),
            (Storage::Wide, SlotElement::Vector(_)) => "vec4<vec2<u32>>".into(),
            (Storage::Wide, _) => "vec2<u32>".into(),
            (_, SlotElement::Vector(_)) if self.width() == 16 => "vec2<u32>".into(),
            _ if slot.written && !self.has_own_words(slot) => "atomic<u32>".into(),
            _ => "u32".into(),
        }
    }

    /// Whether what is stored at once is whole words.
    fn has_own_words(self, slot: &Slot) -> bool {
        matches!(slot.element, SlotElement::Vector(_)) && self.width() >= 8
    }

    /// WGSL of the value in a register of type `to`, from the element that begins at bit `shift` of the u32 `word`. `converts`:
    /// whether the driver converts float16.
    fn decoded(self, word: &str, shift: u32, to: &str, converts: bool) -> String {
        let bits = if shift == 0 { word.into() } else { format!("({word} >> {shift}u)") };
        let number = |value: String| match to {
            "u32" => value,
            "f32" => format!("f32({value})"),
            _ => format!("bitcast<{to}>({value})"),
        };
        match self {
            Storage::F16 if converts => format!("unpack2x16float({bits}).x"),
            Storage::F16 => format!("f16_value({bits})"),
            Storage::BF16 => format!("bitcast<f32>({bits} << 16u)"),
            Storage::Word | Storage::Wide => bits,
            Storage::Small { format, .. } => small_call("value", format, &bits),
            Storage::Narrow { bits: width, signed: false } if shift + u32::from(width) == 32 => number(bits),
            Storage::Narrow { bits: width, signed: false } => {
                number(format!("({bits} & {}u)", (1u32 << width) - 1))
            }
            Storage::Narrow { bits: width, signed: true } => {
                let rest = 32 - u32::from(width);
                let value = format!("(bitcast<i32>({word} << {}u) >> {rest}u)", rest - shift);
                if to == "i32" { value } else { number(value) }
            }
        }
    }

    /// WGSL of a u32 whose lower bits are those in memory of `value`, a register of type `from`; its other bits may be any.
    fn encoded(self, value: &str, from: &str) -> String {
        match (self, from) {
            (Storage::F16, _) => format!("f16_bits({value})"),
            (Storage::BF16, _) => format!("bf16_bits({value})"),
            (Storage::Small { format, .. }, _) => small_call("bits", format, value),
            (_, "u32") => value.into(),
            (_, "f32") => format!("bitcast<u32>(i32({value}))"),
            _ => format!("bitcast<u32>({value})"),
        }
    }

    /// WGSL of the u32 with the elements that have these encodings, from the lowest bits on.
    fn joined(self, encoded: &[String]) -> String {
        let (width, mask) = (self.width(), (1u64 << self.width()) - 1);
        let mut parts = Vec::with_capacity(encoded.len());
        for (lane, bits) in (0..).zip(encoded) {
            parts.push(match lane * width {
                0 => format!("({bits} & {mask}u)"),
                shift if shift + width == 32 => format!("({bits} << {shift}u)"),
                shift => format!("(({bits} & {mask}u) << {shift}u)"),
            });
        }
        parts.join(" | ")
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
            Storage::Small { format, .. } => {
                let functions = if format == DType::F8E8M0 {
                    ["e8m0_value", "e8m0_bits"]
                } else {
                    ["small_value", "small_bits"]
                };
                used.extend(&functions[..1 + usize::from(slot.written)]);
            }
            _ => {}
        }
        let load = self.load(slot, converts);
        if slot.written { load + &self.stores(slot) } else { load }
    }

    /// Loads an element, or a vector of four.
    fn load(self, slot: &Slot, converts: bool) -> String {
        let (name, register, width) = (&slot.name, slot.element.wgsl(), self.width());
        let to = slot.element.scalar().word();
        let lanes = |parts: [(&str, u32); 4]| {
            let lane = |(word, shift)| self.decoded(word, shift, to, converts);
            format!("{register}({})", parts.map(lane).join(", "))
        };
        let (loads, value) = match slot.element {
            SlotElement::Vector(_) if width == 16 => {
                let value = lanes([("w.x", 0), ("w.x", 16), ("w.y", 0), ("w.y", 16)]);
                return format!(
                    "fn {name}_load(i: u32) -> {register} {{\n  let w = {name}[i];\n  return {value};\n}}\n"
                );
            }
            SlotElement::Vector(_) => (32 / (4 * width), lanes([0, 1, 2, 3].map(|lane| ("w", lane * width)))),
            _ => (self.in_word(), self.decoded("w", 0, to, converts)),
        };
        let word = if loads == 1 { format!("{name}[i]") } else { format!("{name}[i / {loads}u]") };
        let atomic = slot.written && !self.has_own_words(slot);
        let word = if atomic { format!("atomicLoad(&{word})") } else { word };
        let shifted = if loads == 1 { word } else { format!("{word} >> (i % {loads}u * {}u)", 32 / loads) };
        format!("fn {name}_load(i: u32) -> {register} {{\n  let w = {shifted};\n  return {value};\n}}\n")
    }

    fn stores(self, slot: &Slot) -> String {
        let (name, word) = (&slot.name, slot.element.scalar().word());
        match slot.element {
            SlotElement::Vector(_) => self.vector_store(slot),
            SlotElement::Run(_, most) => self.single_store(name, word) + &self.run_store(name, word, most),
            _ => self.single_store(name, word),
        }
    }

    /// Stores a vector, or one of its components: a vector may be shared with the next tensor, and one invocation stores those of
    /// its components that are this tensor's. Results and parts begin at vectors, so no other invocation of the kernel stores
    /// into this one.
    fn vector_store(self, slot: &Slot) -> String {
        let (name, word, width) = (&slot.name, slot.element.scalar().word(), self.width());
        let lanes = [0, 1, 2, 3].map(|lane| self.encoded(&format!("value[{lane}]"), word));
        let encoded = self.encoded("value", word);
        let (store, component) = match width {
            16 => (
                format!("{name}[i] = vec2<u32>({}, {});", self.joined(&lanes[..2]), self.joined(&lanes[2..])),
                format!(
                    "let before = {name}[i][lane / 2u];\n  \
                     {name}[i][lane / 2u] = insertBits(before, {encoded}, lane % 2u * 16u, 16u);"
                ),
            ),
            8 => (
                format!("{name}[i] = {};", self.joined(&lanes)),
                format!("{name}[i] = insertBits({name}[i], {encoded}, lane * 8u, 8u);"),
            ),
            _ => {
                let (vectors, bits) = (8 / width, 4 * width);
                let shift = format!("i % {vectors}u * {bits}u");
                (
                    changed(name, &format!("i / {vectors}u"), &shift, &self.joined(&lanes), bits),
                    changed(
                        name,
                        &format!("i / {vectors}u"),
                        &format!("{shift} + lane * {width}u"),
                        &encoded,
                        width,
                    ),
                )
            }
        };
        format!(
            "fn {name}_store(i: u32, value: vec4<{word}>) {{\n  {store}\n}}\n\
             fn {name}_store_component(i: u32, lane: u32, value: {word}) {{\n  {component}\n}}\n"
        )
    }

    fn single_store(self, name: &str, word: &str) -> String {
        let (width, loads) = (self.width(), self.in_word());
        let (at, shift) = (format!("i / {loads}u"), format!("i % {loads}u * {width}u"));
        let change = changed(name, &at, &shift, &self.encoded("value", word), width);
        format!("fn {name}_store(i: u32, value: {word}) {{\n  {change}\n}}\n")
    }

    /// Stores the first `count` of `most` values; `count` is at least 1. Words that belong to this invocation alone are written
    /// whole, without an atomic operation. The run may begin and end anywhere in a word.
    fn run_store(self, name: &str, word: &str, most: usize) -> String {
        let (width, loads) = (self.width(), self.in_word() as usize);
        let mut text = format!(
            "fn {name}_store_run(i: u32, count: u32, values: array<{word}, {most}>) {{\n  \
             let first = i / {loads}u;\n  let shift = i % {loads}u * {width}u;\n  let end = shift + count * {width}u;\n"
        );
        let encoded: Vec<String> = (0..most).map(|e| self.encoded(&format!("values[{e}]"), word)).collect();
        // The values from the first bit of a word on; then moved to where the run begins.
        let groups = encoded.chunks(loads).enumerate();
        groups.for_each(|(k, group)| text += &format!("  let v{k} = {};\n", self.joined(group)));
        let (groups, words) = (most.div_ceil(loads), (most + loads - 1).div_ceil(loads));
        for k in 0..words {
            let own = if k < groups { format!("(v{k} << shift)") } else { String::new() };
            let before = if k > 0 { format!("((v{} >> 1u) >> (31u - shift))", k - 1) } else { String::new() };
            let or = if own.is_empty() || before.is_empty() { "" } else { " | " };
            text += &format!("  let w{k} = {own}{or}{before};\n");
        }
        text += "  var last = w0;\n";
        for k in 0..words {
            if k > 0 {
                text += &format!("  if end > {}u {{ last = w{k}; }}\n", 32 * k);
            }
            let begun = if k == 0 { "shift == 0u && " } else { "" };
            text += &format!(
                "  if {begun}end >= {}u {{ atomicStore(&{name}[first + {k}u], w{k}); }}\n",
                32 * (k + 1)
            );
        }
        let change = |at: &str, mask: &str, bits: &str| {
            format!("atomicXor(&{name}[{at}], (atomicLoad(&{name}[{at}]) ^ {bits}) & ({mask}));")
        };
        // The part of the first word, which may also be the last, and the part of the last.
        text + &format!(
            "  if shift > 0u {{ {} }}\n  if end % 32u > 0u && (shift == 0u || end > 32u) {{ {} }}\n}}\n",
            change("first", "(0xffffffffu << shift) & (0xffffffffu >> (32u - min(end, 32u)))", "w0"),
            change("first + end / 32u", "0xffffffffu >> (32u - end % 32u)", "last"),
        )
    }
}

/// A call of the function that makes a value of a code, or a code of a value.
fn small_call(what: &str, format: DType, argument: &str) -> String {
    let Some(format) = Format::of(format) else { return format!("e8m0_{what}({argument})") };
    let (sign, mantissa, least) = (format.sign(), format.mantissa, format.least());
    let (most, zero) = (format.most_code(), format.has_negative_zero());
    format!("small_{what}({argument}, {sign}u, {mantissa}u, {least}, {most}u, {zero})")
}

/// WGSL that stores `width` bits at bit `shift` of word `at`. Its other bits may belong to other invocations, which may write them
/// at any time. Nobody else writes these bits: they still are what was loaded, and an xor with the difference to the new ones changes
/// these alone.
fn changed(name: &str, at: &str, shift: &str, bits: &str, width: u32) -> String {
    let mask = (1u64 << width) - 1;
    format!(
        "let shift = {shift};\n  let before = atomicLoad(&{name}[{at}]) >> shift;\n  \
         atomicXor(&{name}[{at}], ((before ^ ({bits})) & {mask}u) << shift);"
    )
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
