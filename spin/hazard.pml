/* Hazard pointers (hazard/src): a reader protects what it finds, by a light fence, which is no instruction; two
 * writers replace the object, retire the old one, and free it after a heavy fence if no hazard pointer protects it.
 *
 * Twins, each of which must fail:
 *   NOBODY      the heavy fence reaches nobody: a full fence of its caller
 *   UNLOOKED    the reader does not look again
 *   MOVED       no light fence: the compiler moved the publication behind the second look
 *   EARLY       the scan before the heavy fence
 *   LEFT_EARLY  the reader withdraws its protection before its last use
 */
#define THREADS 3
#define ADDRESSES 2
#define SOURCE 0 /* the object's number; 0 at first */
#define HAZARD 1 /* the number, plus one */
#include "tso.pml"

bool freed[3];

inline use(object) {
    assert(!freed[object]);
    skip;
    assert(!freed[object])
}

proctype reader(byte me) {
    byte i, object, again, tries;
    do
    :: tries < 2 ->
        load(SOURCE, object);
#ifdef MOVED
        load(SOURCE, again);
        store(HAZARD, object + 1);
#else
        store(HAZARD, object + 1);
#ifdef UNLOOKED
        again = object;
#else
        load(SOURCE, again);
#endif
#endif
        if
        :: again == object ->
#ifdef LEFT_EARLY
            store(HAZARD, 0);
#endif
            use(object)
        :: else
        fi;
        store(HAZARD, 0);
        tries++
    :: else -> break
    od
}

proctype writer(byte me; byte new) {
    byte i, old, hazard;
    /* xchg: a locked instruction. */
    atomic { buffer[me].length == 0 -> old = memory[SOURCE]; memory[SOURCE] = new }
#ifdef EARLY
    load(HAZARD, hazard);
#endif
    full_fence();
#ifndef NOBODY
    interrupt_others();
#endif
    full_fence();
#ifndef EARLY
    load(HAZARD, hazard);
#endif
    if
    :: hazard != old + 1 -> freed[old] = true
    :: else
    fi
}

init {
    atomic {
        run hardware(0); run hardware(1); run hardware(2);
        run reader(0); run writer(1, 1); run writer(2, 2)
    }
}
