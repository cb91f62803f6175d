//! Scorecard.

use std::rc::Rc;

use super::converter::Converter;
use super::model::Outcome;
use super::predicate::Test;
use super::scope::Scope;
use super::value::Value;
use super::xml::Element;
use crate::Result;

impl<'x> Converter<'x> {
    /// The initial score and, for each characteristic, the score of its first attribute that holds; missing where none holds.
    pub(super) fn scorecard(
        &mut self,
        model: Element<'x>,
        scope: &Scope<'x>,
        _: Option<Rc<Vec<String>>>,
    ) -> Result<Outcome> {
        let mut score = self.filled(model.number::<f64>("initialScore")?.unwrap_or(0.0));
        for characteristic in model.needs("Characteristics")?.all("Characteristic") {
            let mut partial = self.filled(f64::NAN);
            let attributes: Vec<Element<'x>> = characteristic.all("Attribute").collect();
            for attribute in attributes.iter().rev() {
                let own = self.partial_score(scope, *attribute)?;
                partial = match self.predicate_of(scope, *attribute)? {
                    Test::Always => own,
                    Test::Never => partial,
                    test => {
                        let column = self.column(&test);
                        let holds = self.graph.by("Equal", &column, 1.0);
                        self.graph.op("Where", &[&holds, &own, &partial])
                    }
                };
            }
            score = self.graph.op("Add", &[&score, &partial]);
        }
        Ok(Outcome::of(Value::double(score)))
    }

    fn partial_score(&mut self, scope: &Scope<'x>, attribute: Element<'x>) -> Result<String> {
        if let Some(complex) = attribute.child("ComplexPartialScore") {
            let value = self.expression_of(scope, complex)?;
            return Ok(self.as_number(&value));
        }
        let score = attribute.number::<f64>("partialScore")?;
        let score = score
            .ok_or_else(|| attribute.wrong("it needs the attribute partialScore or a ComplexPartialScore"))?;
        Ok(self.filled(score))
    }
}
