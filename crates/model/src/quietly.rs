use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

/// Runs `work`; if it panics, gives what it said, and nothing is printed.
///
/// For other people's code that panics where it should return an error: drivers that fail, files that are damaged.
pub fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
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
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
    })
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
        assert_eq!(quietly(|| 5), Ok(5));
        let nested = quietly(|| {
            assert_eq!(quietly(|| -> u8 { panic!("unseen") }), Err("unseen".into()));
            let other = std::thread::spawn(|| panic!("seen")).join();
            assert!(other.is_err());
            if SEEN.load(Ordering::Relaxed) > 0 {
                panic!("unseen")
            }
        });
        assert_eq!(nested, Err("unseen".into()));
        assert!(std::thread::spawn(|| panic!("seen")).join().is_err());
        assert_eq!(SEEN.load(Ordering::Relaxed), 2);
    }
}
