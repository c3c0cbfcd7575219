// Recursive doubling among the GPUs of one local rank, one per node.
//
// Everything that decides whether the answer is right is here, and is written
// against `Wire`: what a GPU or a network does. handler.cu has the wire of
// NVSHMEM; the tests have one of threads in one process, so that this very code
// runs without a GPU.
//
// Three rules keep calls apart with no barrier between them:
//   1. Each exchange has a slot of its own on the receiver, so that a fast peer
//      cannot overwrite what a slow one has not read within a call.
//   2. Flags and signals carry the call's sequence number, so that what an
//      earlier call left behind never counts as arrived.
//   3. A receiver acknowledges a slot once it has read it. The next call that
//      uses the slot waits for that before it sends (deferred synchronisation).
// A chunk of the vector always belongs to the same block, whatever the length,
// so that a block's acknowledgement covers all that it will ever overwrite.

#ifndef DECTET_PROTOCOL_H_
#define DECTET_PROTOCOL_H_

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define DECTET_CODE __host__ __device__ inline
#define DECTET_DEVICE __device__ inline
#else
#define DECTET_CODE inline
#define DECTET_DEVICE inline
#endif

namespace dectet {

constexpr int kMaxExchanges = 18;  // 65,536 nodes
constexpr int kNobody = -1;

enum Protocol : int32_t { kLl8 = 0, kSimple = 1, kProtocols = 2 };

// One step of one rank: whom it sends to, whom it hears from, and whether what
// it hears replaces its own sum.
struct Exchange {
  int32_t to = kNobody;
  int32_t from = kNobody;
  bool replaces = false;
};

struct Plan {
  int32_t exchanges = 0;
  Exchange exchange[kMaxExchanges];
};

// The exchanges of the rank at `index` of `members`, all of whom are numbers of
// processing elements (PEs). With more members than the largest power of two,
// the rest hand over their data first and are handed the result at the end.
inline Plan make_plan(const int32_t* members, int32_t size, int32_t index) {
  Plan plan;
  int32_t core = 1;
  while (core * 2 <= size) core *= 2;
  const bool folded = core < size;
  const bool outside = index >= core;
  const int32_t twin = outside ? index - core : index + core;
  const int32_t pe = twin < size ? members[twin] : kNobody;
  if (folded) {
    Exchange& first = plan.exchange[plan.exchanges++];
    (outside ? first.to : first.from) = pe;
  }
  for (int32_t distance = 1; distance < core; distance *= 2) {
    Exchange& step = plan.exchange[plan.exchanges++];
    if (!outside) step.to = step.from = members[index ^ distance];
  }
  if (folded) {
    Exchange& last = plan.exchange[plan.exchanges++];
    (outside ? last.from : last.to) = pe;
    last.replaces = true;
  }
  return plan;
}

// Where everything lies in the scratch memory, which is laid out alike on all
// PEs. A word is 4 bytes of payload; a cell is a word and its flag.
struct Scratch {
  char* base = nullptr;
  int64_t exchanges = 0;
  int64_t words = 0;  // most of one call
  int64_t chunk = 1;  // words that are sent at once
  int64_t blocks = 1;

  DECTET_CODE int64_t chunks() const { return (words + chunk - 1) / chunk; }
  DECTET_CODE int64_t vectors() const { return exchanges * chunks() * chunk; }

  DECTET_CODE uint64_t* cells(int64_t half, int64_t exchange) const {
    uint64_t* start = reinterpret_cast<uint64_t*>(base) + half * vectors();
    return start + exchange * chunks() * chunk;
  }
  DECTET_CODE uint32_t* plain(int64_t half, int64_t exchange) const {
    uint32_t* start = reinterpret_cast<uint32_t*>(cells(2, 0));
    return start + half * vectors() + exchange * chunks() * chunk;
  }
  // What the peer of an exchange writes when a chunk of the call has arrived.
  DECTET_CODE uint64_t* arrived(int64_t exchange, int64_t index) const {
    uint64_t* start = reinterpret_cast<uint64_t*>(plain(2, 0));
    return start + exchange * chunks() + index;
  }
  // What the peer of an exchange writes when it has read what it was sent.
  DECTET_CODE uint64_t* read(int32_t protocol, int64_t exchange,
                             int64_t block) const {
    uint64_t* start = arrived(exchanges, 0);
    return start + (protocol * exchanges + exchange) * blocks + block;
  }
  // The last call in which a block had work; its own memory.
  DECTET_CODE uint64_t* last(int32_t protocol, int64_t block) const {
    return read(kProtocols, 0, 0) + protocol * blocks + block;
  }
  DECTET_CODE int64_t bytes() const {
    return reinterpret_cast<char*>(last(kProtocols, 0)) - base;
  }
};

constexpr int kSlot = 0;   // half of the scratch that peers write
constexpr int kStage = 1;  // half that is sent from

// What a rank was waiting for when it gave up.
struct Failure {
  uint32_t failed;
  int32_t peer;
  int32_t exchange;
  uint32_t acknowledgement;
  uint64_t expected;
  uint64_t seen;
};

// A flag is 4 bytes. It is never 0, which is what unused memory holds.
DECTET_CODE uint32_t flag_of(uint64_t sequence) {
  return static_cast<uint32_t>(1 + (sequence - 1) % 0xffffffffu);
}

DECTET_CODE float as_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

DECTET_CODE uint32_t as_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

struct Float32 {
  using Storage = uint32_t;
  static constexpr int kPerWord = 1;
  static DECTET_CODE uint32_t add(uint32_t a, uint32_t b) {
    return as_bits(as_float(a) + as_float(b));
  }
};

// Two to a word; a sum is taken in float32 and rounded to nearest even.
struct Bfloat16 {
  using Storage = uint16_t;
  static constexpr int kPerWord = 2;
  static DECTET_CODE uint32_t round(float value) {
    const uint32_t bits = as_bits(value);
    if (value != value) return (bits >> 16) | 0x40;
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  }
  static DECTET_CODE uint32_t add(uint32_t a, uint32_t b) {
    const uint32_t low = round(as_float(a << 16) + as_float(b << 16));
    const uint32_t high =
        round(as_float(a & 0xffff0000u) + as_float(b & 0xffff0000u));
    return high << 16 | low;
  }
};

template <class Element>
DECTET_CODE int64_t words_of(int64_t count) {
  return (count + Element::kPerWord - 1) / Element::kPerWord;
}

// What lies past the end is 0.
template <class Element>
DECTET_CODE uint32_t load_word(const typename Element::Storage* x,
                               int64_t count, int64_t word) {
  uint32_t bits = 0;
  for (int part = 0; part < Element::kPerWord; ++part) {
    const int64_t i = word * Element::kPerWord + part;
    if (i < count) bits |= static_cast<uint32_t>(x[i]) << (16 * part);
  }
  return bits;
}

template <class Element>
DECTET_CODE void store_word(typename Element::Storage* x, int64_t count,
                            int64_t word, uint32_t bits) {
  for (int part = 0; part < Element::kPerWord; ++part) {
    const int64_t i = word * Element::kPerWord + part;
    if (i < count) {
      x[i] = static_cast<typename Element::Storage>(bits >> (16 * part));
    }
  }
}

// One call as one block sees it.
template <class Wire>
struct Call {
  Wire& wire;
  const Plan& plan;
  const Scratch& scratch;
  uint64_t sequence;
  uint64_t timeout;  // nanoseconds

  // Polls until `value()` is at least (or, for flags, is) what is expected.
  template <class Value>
  DECTET_DEVICE bool wait(Value value, uint64_t expected, bool exact,
                          int32_t exchange, bool acknowledgement) {
    uint64_t since = 0;
    while (true) {
      const uint64_t seen = value();
      if (exact ? seen == expected : seen >= expected) return true;
      const uint64_t now = wire.now();
      if (since == 0) since = now;
      if (wire.stopped()) return false;
      if (now - since > timeout) {
        const Exchange& step = plan.exchange[exchange];
        wire.fail(Failure{1, acknowledgement ? step.to : step.from, exchange,
                          acknowledgement, expected, seen});
        return false;
      }
      wire.pause();
    }
  }
};

// Payload and flag travel in one store of 8 bytes, so that neither a signal nor
// a fence is needed: a cell whose flag is right holds its payload.
template <class Wire>
struct Ll8 {
  static constexpr int32_t kProtocol = kLl8;
  Call<Wire> call;

  DECTET_DEVICE void keep(int32_t exchange, int64_t i, uint32_t word) {
    const uint64_t flag = flag_of(call.sequence);
    const uint64_t cell = flag << 32 | word;
    call.wire.store(call.scratch.cells(kStage, exchange) + i, cell);
    const int32_t to = call.plan.exchange[exchange].to;
    if (to == kNobody) return;
    uint64_t* slot = call.scratch.cells(kSlot, exchange) + i;
    if (uint64_t* there = call.wire.peer(slot, to)) {
      call.wire.store(there, cell);
    }
  }
  DECTET_DEVICE uint32_t kept(int32_t exchange, int64_t i) {
    const uint64_t* stage = call.scratch.cells(kStage, exchange);
    return static_cast<uint32_t>(call.wire.load(stage + i));
  }
  DECTET_DEVICE void send(int32_t exchange, int64_t begin, int64_t end) {
    const int32_t to = call.plan.exchange[exchange].to;
    uint64_t* slot = call.scratch.cells(kSlot, exchange) + begin;
    if (call.wire.peer(slot, to)) return;  // `keep` stored it there
    const uint64_t* stage = call.scratch.cells(kStage, exchange) + begin;
    call.wire.put(slot, stage, end - begin, to);
  }
  DECTET_DEVICE bool arrive(int32_t, int64_t) { return true; }
  DECTET_DEVICE bool receive(int32_t exchange, int64_t i, uint32_t* word) {
    const uint64_t* cell = call.scratch.cells(kSlot, exchange) + i;
    uint64_t seen = 0;
    auto flag = [&] { return (seen = call.wire.load(cell)) >> 32; };
    const uint64_t expected = flag_of(call.sequence);
    const bool ok = call.wait(flag, expected, true, exchange, false);
    *word = static_cast<uint32_t>(seen);
    return ok;
  }
};

// Payload alone; a signal follows each chunk.
template <class Wire>
struct Simple {
  static constexpr int32_t kProtocol = kSimple;
  Call<Wire> call;

  DECTET_DEVICE void keep(int32_t exchange, int64_t i, uint32_t word) {
    call.scratch.plain(kStage, exchange)[i] = word;
  }
  DECTET_DEVICE uint32_t kept(int32_t exchange, int64_t i) {
    return call.scratch.plain(kStage, exchange)[i];
  }
  DECTET_DEVICE void send(int32_t exchange, int64_t begin, int64_t end) {
    const Scratch& scratch = call.scratch;
    call.wire.put_and_signal(
        scratch.plain(kSlot, exchange) + begin,
        scratch.plain(kStage, exchange) + begin, end - begin,
        scratch.arrived(exchange, begin / scratch.chunk), call.sequence,
        call.plan.exchange[exchange].to);
  }
  DECTET_DEVICE bool arrive(int32_t exchange, int64_t begin) {
    const Scratch& scratch = call.scratch;
    bool ok = true;
    if (call.wire.thread() == 0) {
      uint64_t* word = scratch.arrived(exchange, begin / scratch.chunk);
      auto signal = [&] { return call.wire.signalled(word); };
      ok = call.wait(signal, call.sequence, false, exchange, false);
      if (ok) call.wire.settle(word, call.sequence);
    }
    return call.wire.all(ok);
  }
  DECTET_DEVICE bool receive(int32_t exchange, int64_t i, uint32_t* word) {
    *word = call.scratch.plain(kSlot, exchange)[i];
    return true;
  }
};

// Waits until the peer has read what an earlier call sent it in this exchange.
template <class Wire>
DECTET_DEVICE bool wait_until_read(Call<Wire>& call, int32_t protocol,
                                   int32_t exchange) {
  const int64_t block = call.wire.block();
  bool ok = true;
  if (call.wire.thread() == 0 && call.plan.exchange[exchange].to != kNobody) {
    const uint64_t last = *call.scratch.last(protocol, block);
    const uint64_t* word = call.scratch.read(protocol, exchange, block);
    auto read = [&] { return call.wire.signalled(word); };
    ok = call.wait(read, last, false, exchange, true);
  }
  return call.wire.all(ok);
}

// Reduces `count` elements over the plan's ranks; the chunks of this block.
// Returns whether all arrived in time. A thread always works on the same words
// of a chunk, so that what it keeps only itself reads, until it is sent.
template <class Element, template <class> class Rules, class Wire>
DECTET_DEVICE bool all_reduce(Call<Wire> call, int64_t count,
                              const typename Element::Storage* x,
                              typename Element::Storage* out) {
  Rules<Wire> rules{call};
  Wire& wire = call.wire;
  const Scratch& scratch = call.scratch;
  const int32_t exchanges = call.plan.exchanges;
  const int64_t words = words_of<Element>(count);
  const int64_t stride = scratch.blocks * scratch.chunk;
  const int64_t first = wire.block() * scratch.chunk;
  // Step -1 only loads; step s receives exchange s and sends exchange s + 1.
  for (int32_t step = -1; step < exchanges; ++step) {
    const int32_t next = step + 1;
    const bool hears = step >= 0 && call.plan.exchange[step].from != kNobody;
    const bool replaces = step >= 0 && call.plan.exchange[step].replaces;
    const bool sends =
        next < exchanges && call.plan.exchange[next].to != kNobody;
    if (sends && !wait_until_read(call, Rules<Wire>::kProtocol, next)) {
      return false;
    }
    bool ok = true;
    for (int64_t begin = first; begin < words; begin += stride) {
      const int64_t room = words - begin;
      const int64_t end = begin + (room < scratch.chunk ? room : scratch.chunk);
      if (hears) ok = rules.arrive(step, begin) && ok;
      for (int64_t i = begin + wire.thread(); i < end; i += wire.threads()) {
        uint32_t sum = step < 0 ? load_word<Element>(x, count, i)
                                : rules.kept(step, i);
        uint32_t word = 0;
        if (hears) {
          ok = rules.receive(step, i, &word) && ok;
          sum = replaces ? word : Element::add(sum, word);
        }
        if (next < exchanges) {
          rules.keep(next, i, sum);
        } else {
          store_word<Element>(out, count, i, sum);
        }
      }
      if (sends) {
        wire.all(true);  // the whole chunk is kept
        rules.send(next, begin, end);
      }
    }
    if (!wire.all(ok)) return false;
    if (hears && wire.thread() == 0) {
      uint64_t* read = scratch.read(Rules<Wire>::kProtocol, step, wire.block());
      wire.signal(read, call.sequence, call.plan.exchange[step].from);
    }
  }
  if (wire.thread() == 0) {
    *scratch.last(Rules<Wire>::kProtocol, wire.block()) = call.sequence;
  }
  return true;
}

}  // namespace dectet

#endif  // DECTET_PROTOCOL_H_
