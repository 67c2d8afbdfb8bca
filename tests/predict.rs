//! Labels, blanks and next words for many rows at once.
