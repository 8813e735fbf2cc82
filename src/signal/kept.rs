//! Memory that a thread keeps from one call to the next.
//!
//! A transform of some thousand elements takes less time than the system takes to hand out the
//! memory for it and to take it back.

use std::any::Any;
use std::cell::RefCell;

/// Values that a thread keeps.
const MOST: usize = 4;

thread_local! {
    static KEPT: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// A value of this type that was kept, or an empty one.
pub(crate) fn take<T: Any + Default>() -> T {
    let found = KEPT.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        let at = kept.iter().rposition(|value| value.is::<T>())?;
        kept.remove(at).downcast::<T>().ok()
    });
    found.ok().flatten().map_or_else(T::default, |value| *value)
}

/// Keeps a value for [`take`]; the oldest goes when there are many.
pub(crate) fn keep<T: Any>(value: T) {
    // a thread that ends keeps nothing
    let _ = KEPT.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() == MOST {
            kept.remove(0);
        }
        kept.push(Box::new(value));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_by_type_and_the_oldest_goes() {
        keep(vec![1u8; 3]);
        keep(vec![2u16; 5]);
        assert_eq!(take::<Vec<u8>>(), [1; 3]);
        assert_eq!(take::<Vec<u8>>(), [0; 0]);
        for i in 0..MOST as u32 {
            keep(vec![i]);
        }
        assert!(take::<Vec<u16>>().is_empty());
        assert_eq!(take::<Vec<u32>>(), [MOST as u32 - 1]);
    }
}
