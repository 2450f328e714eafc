use bae_codes::CodesError;
use bae_data::DataError;
use bae_train::TrainError;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A failure as JavaScript sees it: one of the codes of `BaeError`, and one line.
pub struct Failure {
    /// `BaeError.code`.
    pub code: &'static str,
    /// What, where, what to do.
    pub message: String,
}

impl Failure {
    /// Use of a handle after `dispose()`.
    pub fn disposed(what: &str) -> Self {
        Self { code: "DISPOSED", message: format!("this {what} was disposed; load or make it again") }
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        Self { code: error.code(), message: error.to_string() }
    }
}

impl From<CodesError> for Failure {
    fn from(error: CodesError) -> Self {
        Self { code: error.code(), message: error.to_string() }
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Self { code: error.code(), message: error.to_string() }
    }
}

/// For synchronous functions: napi turns the status into the JavaScript error's `code`.
impl From<Failure> for napi::Error<&'static str> {
    fn from(failure: Failure) -> Self {
        napi::Error::new(failure.code, failure.message)
    }
}

/// Runs `work`, turning a panic into `INTERNAL`: nothing may unwind into Node.
pub fn guard<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        let message = format!("internal error, please report it: {text}");
        Err(Failure { code: "INTERNAL", message: message.replace('\n', " ") })
    })
}
