//! The fields that an expression may name.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::converter::Converter;
use super::value::{DataType, Value};
use super::xml::{Element, short};
use crate::Result;

/// A field: its value, or the element that defines it.
#[derive(Clone)]
enum Field<'x> {
    Known(Value),
    Derived(Element<'x>),
    /// Its value is being made: it depends on itself.
    Open,
}

/// Fields of a model, a function or the document, and those around them.
#[derive(Clone)]
pub(super) struct Scope<'x>(Rc<Inner<'x>>);

struct Inner<'x> {
    fields: RefCell<HashMap<String, Field<'x>>>,
    around: Option<Scope<'x>>,
}

impl<'x> Scope<'x> {
    pub(super) fn new(around: Option<&Scope<'x>>) -> Scope<'x> {
        Scope(Rc::new(Inner { fields: RefCell::default(), around: around.cloned() }))
    }

    pub(super) fn set(&self, name: &str, value: Value) {
        self.0.fields.borrow_mut().insert(name.into(), Field::Known(value));
    }

    /// Defines the derived fields of an element.
    pub(super) fn derive(&self, element: Option<Element<'x>>) -> Result<()> {
        for derived in element.into_iter().flat_map(|element| element.all("DerivedField")) {
            let name = derived.required("name")?.to_string();
            self.0.fields.borrow_mut().insert(name, Field::Derived(derived));
        }
        Ok(())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.fields.borrow().contains_key(name)
            || self.0.around.as_ref().is_some_and(|around| around.has(name))
    }
}

impl<'x> Converter<'x> {
    /// The value of a field that an element names.
    pub(super) fn field(&mut self, scope: &Scope<'x>, name: &str, at: Element<'x>) -> Result<Value> {
        let field = scope.0.fields.borrow().get(name).cloned();
        match (field, &scope.0.around) {
            (Some(Field::Known(value)), _) => Ok(value),
            (Some(Field::Derived(derived)), _) => {
                scope.0.fields.borrow_mut().insert(name.into(), Field::Open);
                let value = self.expression_of(scope, derived)?;
                let value = self.cast(value, DataType::of(derived)?, derived)?;
                scope.set(name, value.clone());
                Ok(value)
            }
            (Some(Field::Open), _) => Err(at.wrong(format!("the field '{}' depends on itself", short(name)))),
            (None, Some(around)) => self.field(&around.clone(), name, at),
            (None, None) => Err(at.wrong(format!("no field has the name '{}'", short(name)))),
        }
    }

    /// The same as numbers.
    pub(super) fn field_number(&mut self, scope: &Scope<'x>, name: &str, at: Element<'x>) -> Result<String> {
        let value = self.field(scope, name, at)?;
        Ok(self.as_number(&value))
    }
}
