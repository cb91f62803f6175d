//! The order of questions, which tests hold: which kernel a question is about, if it does not say so itself, must follow from
//! the answers before and from no size. Otherwise one plan's answer for one kernel would be the next plan's for another.

use std::collections::HashMap;
use std::fmt::Debug;

use super::question::Question;
use super::specialisation::Site;

/// What was asked at a site so far, and answered.
pub(super) type Trail = Vec<(Question, String)>;

/// What is asked next behind each trail.
#[derive(Clone, Debug, Default)]
pub(super) struct Order(HashMap<(Site, Trail), Question>);

impl Order {
    /// Takes down a question and its answer.
    pub(super) fn next(&mut self, site: Site, trail: &mut Trail, question: Question, answer: &impl Debug) {
        if question.says_what() {
            return;
        }
        let expected = *self.0.entry((site, trail.clone())).or_insert(question);
        assert_eq!(question, expected, "asked at {site:?} behind {trail:?} of other sizes");
        trail.push((question, format!("{answer:?}")));
    }
}
