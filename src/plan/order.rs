//! The order of questions, which tests check. A question that does not name the kernel it is about must follow from the
//! answers before it, and from no size. Otherwise one plan's answer for one kernel would be the next plan's answer for another
//! kernel.

use std::collections::HashMap;
use std::fmt::Debug;

use super::question::Question;
use super::specialisation::Site;

/// The questions that were asked at a site so far, with their answers.
pub(super) type Trail = Vec<(Question, String)>;

/// For each trail, the question that was asked next.
#[derive(Clone, Debug, Default)]
pub(super) struct Order(HashMap<(Site, Trail), Question>);

impl Order {
    /// Records a question and its answer.
    pub(super) fn next(&mut self, site: Site, trail: &mut Trail, question: Question, answer: &impl Debug) {
        if question.says_what() {
            return;
        }
        let expected = *self.0.entry((site, trail.clone())).or_insert(question);
        assert_eq!(question, expected, "asked at {site:?} behind {trail:?} of other sizes");
        trail.push((question, format!("{answer:?}")));
    }
}
