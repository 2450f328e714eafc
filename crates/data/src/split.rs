/// How many of `rows` to train on when `validation_fraction` of them are held out: the whole part of
/// rows · (1 − validation_fraction), in f64.
pub fn training_rows(rows: usize, validation_fraction: f64) -> usize {
    training_rows_of(1.0 - validation_fraction, rows)
}

/// The whole part of rows · fraction, in f64 as the published code computes it: 0.57 of 100 rows are 56.
///
/// Never more than `rows`, and 0 for a fraction below 0 or NaN.
pub fn training_rows_of(fraction: f64, rows: usize) -> usize {
    ((rows as f64 * fraction) as usize).min(rows)
}
