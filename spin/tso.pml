/* x86-TSO: each thread writes into a FIFO buffer of its own, from which the stores go to memory one by one at any
 * time. A load takes the newest store of its own buffer, else memory. A full fence and a locked instruction wait
 * until the buffer is empty. (Sewell et al., x86-TSO, CACM 2010.)
 *
 * An interrupt is a full fence of the thread it interrupts, at any point of that thread; its sender waits until it
 * was taken. A thread that does not run has executed a full fence when it was switched out. The model has no switches:
 * a thread's interrupt stands for that fence too.
 *
 * Before the include: THREADS, and ADDRESSES, the number of memory cells.
 */

byte memory[ADDRESSES];

#define DEPTH 6 /* of a buffer: at least what a thread of these models stores between two fences */

typedef Buffer { byte at[DEPTH]; byte value[DEPTH]; byte length };
Buffer buffer[THREADS];

/* Senders whose interrupt the thread has not taken, a bit each. */
byte pending[THREADS];

inline oldest_leaves(who) {
    memory[buffer[who].at[0]] = buffer[who].value[0];
    i = 1;
    do
    :: i < buffer[who].length ->
        buffer[who].at[i - 1] = buffer[who].at[i];
        buffer[who].value[i - 1] = buffer[who].value[i];
        i++
    :: else -> break
    od;
    buffer[who].length--;
    buffer[who].at[buffer[who].length] = 0;
    buffer[who].value[buffer[who].length] = 0;
    i = 0
}

/* A store drains, or an interrupt is taken: at any time. */
proctype hardware(byte me) {
    byte i;
end:
    do
    :: atomic { buffer[me].length > 0 -> oldest_leaves(me) }
    :: atomic {
        pending[me] != 0 && buffer[me].length == 0 -> pending[me] = 0
       }
    od
}

inline store(address, what) {
    atomic {
        assert(buffer[me].length < DEPTH);
        buffer[me].at[buffer[me].length] = address;
        buffer[me].value[buffer[me].length] = what;
        buffer[me].length++
    }
}

inline load(address, into) {
    atomic {
        into = memory[address];
        i = 0;
        do
        :: i < buffer[me].length ->
            if
            :: buffer[me].at[i] == address -> into = buffer[me].value[i]
            :: else
            fi;
            i++
        :: else -> break
        od;
        i = 0
    }
}

inline full_fence() { buffer[me].length == 0 }

/* lock cmpxchg; `done` says whether it exchanged. */
inline compare_exchange(address, old, new, done) {
    atomic {
        buffer[me].length == 0 ->
        if
        :: memory[address] == old -> memory[address] = new; done = true
        :: else -> done = false
        fi
    }
}

/* Interrupts every other thread, all at once, and waits until each has taken it. */
inline interrupt_others() {
    atomic {
        i = 0;
        do
        :: i < THREADS -> if :: i != me -> pending[i] = pending[i] | (1 << me) :: else fi; i++
        :: else -> break
        od;
        i = 0
    }
    do
    :: i < THREADS -> ((i == me) || ((pending[i] & (1 << me)) == 0)) -> i++
    :: else -> break
    od;
    i = 0
}
