//! The example's protocol, under a reader in another process.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release, SeqCst};

use asymfence::cross_process::{AsymmetricFences, Mode};

use super::{Header, Segment, attach_asymmetric, attach_when_made, create, two_processes};
use crate::child::Child;
use crate::memory::Atomics;
use crate::snapshots::{Snapshots, Writer};

#[repr(C)]
struct Read {
    snapshots: Snapshots,
    reads: AtomicU64,
}

// SAFETY: atomic integers, in arrays and with padding between.
unsafe impl Atomics for Read {}

const READS: u64 = 2_000_000;

/// Makes the segment, and does `work` as the one that publishes there.
fn as_writer(
    header: Header<'_>,
    snapshots: &Snapshots,
    work: impl FnOnce(&mut Writer<'_, AsymmetricFences>),
) {
    create(header, Mode::Asymmetric).expect("membarrier is offered");
    let me = attach_asymmetric(header);
    work(&mut Writer::new(&me, snapshots));
}

#[test]
fn no_snapshot_is_torn_and_none_is_older_than_the_last() {
    Child::default().run(|| {
        two_processes(
            None,
            |Segment::<Read> { header, data }, mut peer| {
                as_writer(header, &data.snapshots, |writer| {
                    while data.reads.load(Acquire) < READS {
                        (0..100).for_each(|_| writer.publish());
                        peer.wait_until(|| true);
                    }
                    assert!(writer.heavy_fences() > 0);
                    peer.ends_well();
                });
            },
            |Segment { header, data }| {
                let _ = attach_when_made(header);
                let me = attach_asymmetric(header);
                let mut newest = 0;
                for _ in 0..READS {
                    let number = data.snapshots.read(&me, |snapshot| snapshot.check());
                    let number = number.expect("a snapshot is whole");
                    assert!(number >= newest);
                    newest = number;
                    data.reads.fetch_add(1, Release);
                }
            },
        );
    });
}

/// A reader that dies while it reads keeps one buffer from the writer, until its place is reaped.
#[test]
fn what_a_dead_reader_reads_is_kept_until_it_is_reaped() {
    Child::default().run(|| {
        two_processes(
            None,
            |Segment::<Read> { header, data }, mut peer| {
                as_writer(header, &data.snapshots, |writer| {
                    writer.publish();
                    peer.wait_until(|| data.reads.load(SeqCst) == 1);
                    assert_eq!(writer.reap(), Ok(0), "it lives");
                    peer.kill();
                    (0..5_000).for_each(|_| writer.publish());
                    assert_eq!(writer.kept_by_readers(), 1);
                    assert_eq!(writer.reap(), Ok(1));
                    assert_eq!(writer.kept_by_readers(), 0);
                });
            },
            |Segment { header, data }| {
                let _ = attach_when_made(header);
                let me = attach_asymmetric(header);
                data.snapshots.read(&me, |_| {
                    data.reads.store(1, SeqCst);
                    loop {
                        std::thread::park();
                    }
                });
            },
        );
    });
}
