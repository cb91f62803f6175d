//! Control flow of every variant: barriers stand where all invocations of a workgroup come by, and no loop is bounded by
//! parameters alone.

use std::collections::{BTreeSet, HashMap};

use naga::{AddressSpace, Block, BuiltIn, Expression, Function, Handle, Module, Statement, StorageAccess};

use super::every_variant;

/// What an expression is computed from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Origin {
    /// It may differ between the invocations of a workgroup.
    varies: bool,
    /// The uniform buffer.
    params: bool,
    /// Something that the driver learns only while the kernel runs.
    unknown: bool,
}

impl Origin {
    const VARYING: Origin = Origin { varies: true, params: false, unknown: true };
    const UNKNOWN: Origin = Origin { varies: false, params: false, unknown: true };

    fn and(self, other: Origin) -> Origin {
        let Origin { varies, params, unknown } = other;
        Origin { varies: self.varies | varies, params: self.params | params, unknown: self.unknown | unknown }
    }
}

/// Follows values through one function.
struct Flow<'m> {
    module: &'m Module,
    function: &'m Function,
    arguments: Vec<Origin>,
    /// What was ever stored in each variable, and the results of calls.
    locals: HashMap<Handle<naga::LocalVariable>, Origin>,
    calls: HashMap<Handle<Expression>, Origin>,
    complaints: BTreeSet<String>,
}

impl<'m> Flow<'m> {
    fn new(module: &'m Module, function: &'m Function, arguments: Vec<Origin>) -> Self {
        let (locals, calls, complaints) = (HashMap::new(), HashMap::new(), BTreeSet::new());
        let mut flow = Flow { module, function, arguments, locals, calls, complaints };
        // Variables are stored to in loops before the text says so: until nothing new is learnt.
        loop {
            let before = (flow.locals.clone(), flow.calls.clone());
            flow.complaints.clear();
            flow.block(&function.body, false);
            if before == (flow.locals.clone(), flow.calls.clone()) {
                return flow;
            }
        }
    }

    fn of(&self, handle: Handle<Expression>) -> Origin {
        let all = |list: &[Handle<Expression>]| {
            list.iter().fold(Origin::default(), |origin, &handle| origin.and(self.of(handle)))
        };
        match &self.function.expressions[handle] {
            Expression::Literal(_) | Expression::Constant(_) | Expression::ZeroValue(_) => Origin::default(),
            Expression::FunctionArgument(i) => self.arguments[*i as usize],
            Expression::GlobalVariable(variable) => match self.module.global_variables[*variable].space {
                AddressSpace::Uniform => Origin { params: true, ..Origin::default() },
                AddressSpace::Storage { access } if !access.contains(StorageAccess::STORE) => Origin::UNKNOWN,
                // Invocations may read it at different times.
                _ => Origin::VARYING,
            },
            Expression::LocalVariable(variable) => self.locals.get(variable).copied().unwrap_or_default(),
            Expression::Compose { components, .. } => all(components),
            Expression::Access { base, index } => all(&[*base, *index]),
            Expression::AccessIndex { base, .. } => self.of(*base),
            Expression::Splat { value, .. } => self.of(*value),
            Expression::Swizzle { vector, .. } => self.of(*vector),
            Expression::Load { pointer } => self.of(*pointer),
            Expression::Unary { expr, .. } | Expression::As { expr, .. } => self.of(*expr),
            Expression::Binary { left, right, .. } => all(&[*left, *right]),
            Expression::Select { condition, accept, reject } => all(&[*condition, *accept, *reject]),
            Expression::Relational { argument, .. } => self.of(*argument),
            Expression::Math { arg, arg1, arg2, arg3, .. } => {
                let rest: Vec<_> = [arg1, arg2, arg3].into_iter().flatten().copied().collect();
                self.of(*arg).and(all(&rest))
            }
            Expression::CallResult(_) => self.calls.get(&handle).copied().unwrap_or_default(),
            Expression::WorkGroupUniformLoadResult { .. } | Expression::ArrayLength(_) => Origin::UNKNOWN,
            _ => Origin::VARYING,
        }
    }

    fn store(&mut self, pointer: Handle<Expression>, value: Origin) {
        let mut base = pointer;
        loop {
            match self.function.expressions[base] {
                Expression::Access { base: of, .. } | Expression::AccessIndex { base: of, .. } => base = of,
                Expression::LocalVariable(variable) => {
                    let known = self.locals.entry(variable).or_default();
                    *known = known.and(value);
                    return;
                }
                _ => return,
            }
        }
    }

    fn call(&mut self, callee: Handle<Function>, arguments: &[Handle<Expression>]) -> Origin {
        let arguments = arguments.iter().map(|&argument| self.of(argument)).collect();
        let callee = Flow::new(self.module, &self.module.functions[callee], arguments);
        if has_barrier(&callee.function.body) {
            self.complaints.insert("a barrier in a function".into());
        }
        self.complaints.extend(callee.complaints.iter().cloned());
        callee.result(&callee.function.body, Origin::default())
    }

    /// What the function's result is computed from; `control` decides which return is taken.
    fn result(&self, block: &Block, control: Origin) -> Origin {
        block.iter().fold(Origin::default(), |origin, statement| {
            origin.and(match statement {
                Statement::Return { value: Some(value) } => self.of(*value).and(control),
                Statement::Block(block) => self.result(block, control),
                Statement::If { condition, accept, reject } => {
                    let control = control.and(self.of(*condition));
                    self.result(accept, control).and(self.result(reject, control))
                }
                Statement::Switch { selector, cases } => {
                    let control = control.and(self.of(*selector));
                    cases.iter().fold(Origin::default(), |o, case| o.and(self.result(&case.body, control)))
                }
                Statement::Loop { body, continuing, .. } => {
                    self.result(body, control).and(self.result(continuing, control))
                }
                _ => Origin::default(),
            })
        })
    }

    /// Whether invocations may have parted behind the block, if they had as `parted` says before it.
    fn block(&mut self, block: &Block, parted: bool) -> bool {
        let mut parted = parted;
        for statement in block.iter() {
            match statement {
                Statement::ControlBarrier(_) | Statement::WorkGroupUniformLoad { .. } if parted => {
                    self.complaints.insert("a barrier that not all invocations reach together".into());
                }
                Statement::Block(block) => parted = self.block(block, parted),
                Statement::If { condition, accept, reject } => {
                    let inside = parted || self.of(*condition).varies;
                    self.block(accept, inside);
                    self.block(reject, inside);
                    parted |= inside && (leaves(accept) || leaves(reject));
                }
                Statement::Switch { selector, cases } => {
                    let inside = parted || self.of(*selector).varies;
                    for case in cases {
                        self.block(&case.body, inside);
                        parted |= inside && leaves(&case.body);
                    }
                }
                Statement::Loop { body, continuing, break_if } => {
                    // Where some invocations leave early, the next round is no longer common.
                    let varies = break_if.is_some_and(|condition| self.of(condition).varies);
                    let inside = self.block(body, parted) || varies;
                    self.block(body, inside);
                    self.block(continuing, inside);
                    self.bound(body);
                    parted |= inside && returns(body);
                }
                Statement::Store { pointer, value } => {
                    let mut value = self.of(*value);
                    value.varies |= parted;
                    self.store(*pointer, value);
                }
                Statement::Call { function, arguments, result } => {
                    let origin = self.call(*function, arguments);
                    if let Some(result) = result {
                        self.calls.insert(*result, origin);
                    }
                }
                _ => {}
            }
        }
        parted
    }

    /// lavapipe compiles a kernel anew for each submission if it can put the parameters' values into a loop's condition.
    fn bound(&mut self, body: &Block) {
        for statement in body.iter() {
            let Statement::If { condition, accept, reject } = statement else { continue };
            let breaks = |block: &Block| block.iter().any(|s| matches!(s, Statement::Break));
            let origin = self.of(*condition);
            if (breaks(accept) || breaks(reject)) && origin.params && !origin.unknown {
                self.complaints.insert("a loop is bounded by parameters alone".into());
            }
        }
    }
}

fn any(block: &Block, found: &dyn Fn(&Statement) -> bool, into_loops: bool) -> bool {
    block.iter().any(|statement| {
        found(statement)
            || match statement {
                Statement::Block(block) => any(block, found, into_loops),
                Statement::If { accept, reject, .. } => {
                    any(accept, found, into_loops) || any(reject, found, into_loops)
                }
                Statement::Switch { cases, .. } => {
                    cases.iter().any(|case| any(&case.body, found, into_loops))
                }
                Statement::Loop { body, continuing, .. } => {
                    into_loops && (any(body, found, true) || any(continuing, found, true))
                }
                _ => false,
            }
    })
}

fn has_barrier(block: &Block) -> bool {
    any(block, &|s| matches!(s, Statement::ControlBarrier(_) | Statement::WorkGroupUniformLoad { .. }), true)
}

fn returns(block: &Block) -> bool {
    any(block, &|s| matches!(s, Statement::Return { .. } | Statement::Kill), true)
}

/// Whether control may leave the block other than at its end.
fn leaves(block: &Block) -> bool {
    returns(block) || any(block, &|s| matches!(s, Statement::Break | Statement::Continue), false)
}

fn builtin(argument: &naga::FunctionArgument) -> Origin {
    match argument.binding {
        Some(naga::Binding::BuiltIn(BuiltIn::WorkGroupId | BuiltIn::NumWorkGroups)) => Origin::UNKNOWN,
        _ => Origin::VARYING,
    }
}

fn complaints(module: &Module) -> BTreeSet<String> {
    let flow = |entry: &naga::EntryPoint| {
        let arguments = entry.function.arguments.iter().map(builtin).collect();
        let flow = Flow::new(module, &entry.function, arguments);
        flow.complaints.into_iter().collect::<Vec<_>>()
    };
    module.entry_points.iter().flat_map(flow).collect()
}

#[test]
fn control_flow_is_sound() {
    every_variant(|variant| {
        let complaints: Vec<String> = complaints(&variant.module).into_iter().collect();
        if complaints.is_empty() { Ok(()) } else { Err(complaints.join("; ")) }
    });
}

/// What the check says of a kernel's body.
fn said_of(body: &str) -> String {
    let text = format!(
        "struct Params {{ n: u32, }} @group(0) @binding(0) var<uniform> p: Params;
         @group(0) @binding(1) var<storage, read_write> x: array<u32>;
         var<workgroup> shared0: array<u32, 64>;
         @compute @workgroup_size(64)
         fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {{ {body} }}"
    );
    let module =
        naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
    complaints(&module).into_iter().collect::<Vec<_>>().join("; ")
}

#[test]
fn sees_what_is_wrong() {
    let barrier = "a barrier that not all invocations reach together";
    assert_eq!(said_of("if lane < p.n { return; } workgroupBarrier();"), barrier);
    assert_eq!(said_of("if lane < p.n { workgroupBarrier(); }"), barrier);
    assert_eq!(said_of("for (var i = lane; i < p.n; i += 64u) { workgroupBarrier(); }"), barrier);
    assert_eq!(said_of("if x[0] == 1u { return; } workgroupBarrier();"), barrier);
    assert_eq!(said_of("var i = 0u; if lane > 3u { i = 2u; } if i == 0u { workgroupBarrier(); }"), barrier);
    assert_eq!(said_of("if group.x < p.n { workgroupBarrier(); }"), "");
    assert_eq!(
        said_of(
            "for (var s = 32u; s > 0u; s /= 2u) { if lane < s { shared0[lane] = 1u; } workgroupBarrier(); }"
        ),
        ""
    );
    let bounded = "a loop is bounded by parameters alone";
    assert_eq!(said_of("for (var i = 0u; i < p.n; i++) { x[i] = 1u; }"), bounded);
    assert_eq!(said_of("let end = p.n * 2u; for (var i = p.n; i < end; i++) { x[i] = 1u; }"), bounded);
    assert_eq!(
        said_of("let zero = group.z >> 20u; for (var i = 0u; i < p.n + zero; i++) { x[i] = 1u; }"),
        ""
    );
    assert_eq!(said_of("for (var i = lane; i < p.n; i++) { x[i] = 1u; }"), "");
    assert_eq!(said_of("for (var i = 0u; i < 9u; i++) { x[i] = 1u; }"), "");
}
