use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

/// Runs `work`; `None` if it panics, of which nothing is printed.
///
/// For crates that do not promise to take damaged files without one: an error says what is to be said.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                before(panic)
            }
        }));
    });
    let outer = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(outer);
    result.ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::quietly;

    #[test]
    fn panics_of_this_call_alone_are_silent() {
        static SEEN: AtomicUsize = AtomicUsize::new(0);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            match panic.payload().downcast_ref::<&str>() {
                Some(&"seen") => drop(SEEN.fetch_add(1, Ordering::Relaxed)),
                Some(&"unseen") => SEEN.store(100, Ordering::Relaxed),
                _ => before(panic),
            };
        }));
        assert_eq!(quietly(|| 5), Some(5));
        let nested = quietly(|| {
            assert_eq!(quietly(|| -> u8 { panic!("unseen") }), None);
            let other = std::thread::spawn(|| panic!("seen")).join();
            assert!(other.is_err());
            if SEEN.load(Ordering::Relaxed) > 0 {
                panic!("unseen")
            }
        });
        assert_eq!(nested, None);
        assert!(std::thread::spawn(|| panic!("seen")).join().is_err());
        assert_eq!(SEEN.load(Ordering::Relaxed), 2);
    }
}
