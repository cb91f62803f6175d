//! What the tests and benchmarks of Sardonyx share.
