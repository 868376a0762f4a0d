//! Programs that must not compile, because they would use an object after it was freed, or in two threads at once.
//! Before each stands its twin, which compiles and runs: the same program without the fault.
//!
//! # A second domain of a family
//!
//! The object would be retired to one domain, and protected by a hazard pointer of another. But no constructor of a
//! hazard pointer takes a domain.
//!
//! ```
//! use asymfence_hazard::{AtomicBox, Family, HazardPointer, domain};
//!
//! domain! { enum Routes {} }
//! let table = AtomicBox::<String, Routes>::from(Box::new("one".to_owned()));
//! let mut hazard = HazardPointer::<Routes>::new();
//! let one = hazard.protect(&table).expect("not null");
//! table.store(Box::new("two".to_owned()));
//! Routes::domain().reclaim_all().unwrap();
//! assert_eq!(one, "one");
//! ```
//! ```compile_fail,E0061
//! use asymfence_hazard::{AtomicBox, Family, HazardPointer, domain};
//!
//! domain! { enum Routes {} }
//! domain! { enum Others {} }
//! let table = AtomicBox::<String, Routes>::from(Box::new("one".to_owned()));
//! let mut hazard = HazardPointer::<Routes>::new(Others::domain());
//! let one = hazard.protect(&table).expect("not null");
//! table.store(Box::new("two".to_owned()));
//! Routes::domain().reclaim_all().unwrap();
//! assert_eq!(one, "one");
//! ```
//!
//! Only the macro makes a domain:
//!
//! ```
//! use asymfence_hazard::{Family, Thresholds, domain};
//!
//! domain! { enum Routes {} = Thresholds::DEFAULT; }
//! assert_eq!(Routes::domain().stats().retired, 0);
//! ```
//! ```compile_fail,E0133
//! use asymfence_hazard::{Domain, Thresholds, domain};
//!
//! domain! { enum Routes {} = Thresholds::DEFAULT; }
//! let other: Domain<Routes> = Domain::__new(Thresholds::DEFAULT);
//! assert_eq!(other.stats().retired, 0);
//! ```
//! ```compile_fail
//! use asymfence_hazard::{__domain, Domain, Thresholds, domain};
//!
//! domain! { enum Routes {} = Thresholds::DEFAULT; }
//! let other: &Domain<Routes> = __domain!(Routes, Thresholds::DEFAULT);
//! assert_eq!(other.stats().retired, 0);
//! ```
//!
//! # A hazard pointer of another family
//!
//! ```
//! use asymfence_hazard::{AtomicBox, HazardPointer, domain};
//!
//! domain! { enum Routes {} }
//! let table = AtomicBox::<u32, Routes>::from(Box::new(7));
//! assert_eq!(HazardPointer::<Routes>::new().protect(&table), Some(&7));
//! ```
//! ```compile_fail,E0308
//! use asymfence_hazard::{AtomicBox, Global, HazardPointer, domain};
//!
//! domain! { enum Routes {} }
//! let table = AtomicBox::<u32, Routes>::from(Box::new(7));
//! assert_eq!(HazardPointer::<Global>::new().protect(&table), Some(&7));
//! ```
//!
//! A replaced object does not go into a place of another family:
//!
//! ```
//! use asymfence_hazard::{AtomicBox, domain};
//!
//! domain! { enum Routes {} }
//! let from = AtomicBox::<u32, Routes>::from(Box::new(7));
//! let to = AtomicBox::<u32, Routes>::null();
//! assert!(to.put_back(from.take().expect("not null")).is_none());
//! ```
//! ```compile_fail,E0308
//! use asymfence_hazard::{AtomicBox, Global, domain};
//!
//! domain! { enum Routes {} }
//! let from = AtomicBox::<u32, Routes>::from(Box::new(7));
//! let to = AtomicBox::<u32, Global>::null();
//! assert!(to.put_back(from.take().expect("not null")).is_none());
//! ```
//!
//! # A node that is followed from what was freed
//!
//! A reader protects `a`, which was removed. It can follow the place in `a` as long as it protects `a`, and no longer:
//!
//! ```
//! use asymfence_hazard::{AtomicBox, Domain};
//!
//! struct Node(AtomicBox<Node>);
//! let b = AtomicBox::from(Box::new(Node(AtomicBox::null())));
//! let head: AtomicBox<Node> = AtomicBox::from(Box::new(Node(b)));
//! let a = head.load().expect("not null");
//! let next = &a.0;
//! drop(head.take());
//! Domain::global().reclaim_all().unwrap();
//! assert!(next.load().is_some());
//! drop(a);
//! ```
//! ```compile_fail,E0505
//! use asymfence_hazard::{AtomicBox, Domain};
//!
//! struct Node(AtomicBox<Node>);
//! let b = AtomicBox::from(Box::new(Node(AtomicBox::null())));
//! let head: AtomicBox<Node> = AtomicBox::from(Box::new(Node(b)));
//! let a = head.load().expect("not null");
//! let next = &a.0;
//! drop(head.take());
//! drop(a);
//! Domain::global().reclaim_all().unwrap();
//! assert!(next.load().is_some());
//! ```
//!
//! Following a link is safe, writing it is not:
//!
//! ```
//! use asymfence_hazard::{HazardPointer, Link};
//!
//! let root: Link<u64> = Link::null();
//! assert_eq!(HazardPointer::new().protect_link(&root), Ok(None));
//! ```
//! ```compile_fail,E0133
//! use asymfence_hazard::{HazardPointer, Link, Tagged};
//!
//! let root: Link<u64> = Link::null();
//! root.store(Tagged::from(Box::new(7)));
//! assert_eq!(HazardPointer::new().protect_link(&root), Ok(Some(&7)));
//! ```
//!
//! # A guard of what is gone
//!
//! ```
//! use asymfence_hazard::{Chain, NewNode};
//!
//! let chain = Chain::<String>::new();
//! chain.cursor().insert(NewNode::new("one".to_owned())).unwrap();
//! let mut cursor = chain.cursor();
//! cursor.seek(|_| false);
//! let one = cursor.into_guard().expect("a node");
//! assert_eq!(*one, "one");
//! drop(one);
//! drop(chain);
//! ```
//! ```compile_fail,E0505
//! use asymfence_hazard::{Chain, NewNode};
//!
//! let chain = Chain::<String>::new();
//! chain.cursor().insert(NewNode::new("one".to_owned())).unwrap();
//! let mut cursor = chain.cursor();
//! cursor.seek(|_| false);
//! let one = cursor.into_guard().expect("a node");
//! drop(chain);
//! assert_eq!(*one, "one");
//! ```
//! ```
//! let cell = asymfence_hazard::HazardCell::<String>::new("one".to_owned());
//! let guard = cell.load();
//! assert_eq!(guard.len(), 3);
//! drop(guard);
//! cell.into_inner();
//! ```
//! ```compile_fail,E0505
//! let cell = asymfence_hazard::HazardCell::<String>::new("one".to_owned());
//! let guard = cell.load();
//! cell.into_inner();
//! assert_eq!(guard.len(), 3);
//! ```
//!
//! # Objects that borrow what may end before they are freed, or that other threads must not see
//!
//! ```
//! use asymfence_hazard::AtomicBox;
//!
//! let text: &'static str = "lives for ever";
//! let place: AtomicBox<&'static str> = AtomicBox::from(Box::new(text));
//! assert!(place.load().is_some());
//! ```
//! ```compile_fail,E0597
//! use asymfence_hazard::AtomicBox;
//!
//! let text = String::from("lives in this scope");
//! let place: AtomicBox<&'static str> = AtomicBox::from(Box::new(text.as_str()));
//! assert!(place.load().is_some());
//! ```
//! ```
//! let cell = asymfence_hazard::HazardCell::<std::sync::atomic::AtomicU32>::default();
//! assert_eq!(cell.load().load(std::sync::atomic::Ordering::Relaxed), 0);
//! ```
//! ```compile_fail,E0277
//! let cell = asymfence_hazard::HazardCell::<std::cell::Cell<u32>>::default();
//! assert_eq!(cell.load().get(), 0);
//! ```
