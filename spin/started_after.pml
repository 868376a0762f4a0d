/* STARTED-AFTER (src/coalesce.rs): two callers share heavy calls, and a reader pairs with both by a light fence,
 * which is no instruction. Each caller stores its datum, makes a heavy fence, and looks at x; the reader stores x
 * and looks at the data. Forbidden: that neither sees the other.
 *
 * The numbers are those of src/coalesce.rs. This is a simplified form of it:
 *   - the lead is a word of its own, LEADING: in src/coalesce.rs one word has the lead and the count of started calls;
 *   - a caller that stops waiting makes a call that nobody shares, in place of taking over the lead;
 *   - no call fails;
 *   - (5) and (7) are missing. (7) is no instruction on x86. (5) is a full fence of the leader, for those who pair
 *     with full fences, of whom there are none here.
 *
 * Twins, each of which must fail:
 *   IN_FLIGHT   shares the call that is in flight when it arrives
 *   LATE        counts the call as started when it has ended
 *   UNOPENED    no fence before the look at `started`
 *   UNLED       no fence between `started` and the call
 *   NOBODY      the leader's call reaches nobody
 *   MOVED       no light fence: the compiler moved the reader's store behind its loads
 */
#define THREADS 3
#define ADDRESSES 6
#define X 0
#define DATUM 1 /* and 2 */
#define STARTED 3
#define ENDED 4
#define LEADING 5
#include "tso.pml"

byte saw_x[2], saw_datum[2];
byte over;

proctype caller(byte me) {
    byte i, arrived, seen, last;
    bool leads;

    store(DATUM + me, 1);
#ifndef UNOPENED
    full_fence(); /* (1) */
#endif
    load(STARTED, arrived); /* (2) */
    do
    :: load(ENDED, seen);
#ifdef IN_FLIGHT
       if :: seen >= arrived && seen > 0 -> break :: else fi;
#else
       if :: seen > arrived -> break :: else fi;
#endif
       compare_exchange(LEADING, 0, 1, leads);
       if
       :: leads ->
            load(ENDED, last);
            if
            :: last > arrived -> skip
            :: else ->
#ifndef LATE
                store(STARTED, last + 1); /* (3) */
#endif
#ifndef UNLED
                full_fence(); /* (4) */
#endif
#ifndef NOBODY
                interrupt_others();
#endif
#ifdef LATE
                store(STARTED, last + 1);
#endif
                store(ENDED, last + 1); /* (6) */
            fi;
            store(LEADING, 0);
            break
       :: else ->
            if
            :: skip
            :: interrupt_others(); break /* out of patience: a call of its own */
            fi
       fi
    od;
    load(X, saw_x[me]);
    over++
}

proctype reader(byte me) {
    byte i, first;
    /* The data in either order. */
    if :: first = 0 :: first = 1 fi;
#ifndef MOVED
    store(X, 1);
#endif
    load(DATUM + first, saw_datum[first]);
    load(DATUM + 1 - first, saw_datum[1 - first]);
#ifdef MOVED
    store(X, 1);
#endif
    over++
}

init {
    atomic {
        run hardware(0); run hardware(1); run hardware(2);
        run caller(0); run caller(1); run reader(2)
    }
    over == 3;
    assert(saw_x[0] + saw_datum[0] > 0);
    assert(saw_x[1] + saw_datum[1] > 0)
}
