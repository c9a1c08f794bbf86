"""A study: recipes x models x seeds, planned, run, resumed, and reported on one page. See docs/study.md."""
