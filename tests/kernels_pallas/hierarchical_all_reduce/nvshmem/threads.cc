// Runs protocol.h on threads of one process: a thread for each thread of a GPU,
// and one for each network card, which is as unkind as NVSHMEM allows.
//
//   threads NODES BLOCKS THREADS CHUNK REACH ABSENT TIMEOUT_MS SEED FIRST
//       LENGTH...
//     calls with each length, in both dtypes and both protocols, back to back
//     on one scratch. REACH: whether PEs store into each other's memory (1) or
//     send (0). ABSENT: a rank that stays out of the third call, or -1.
//     FIRST: sequence number of the first call.
//   threads add A B ...  the bfloat16 sums of pairs of words

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "protocol.h"

using namespace dectet;

namespace {

#ifndef FLAG_FIRST  // a network that would tear a cell: for a mutant
#define FLAG_FIRST 0
#endif

std::atomic<bool> gave_up{false};
std::mutex failure_mutex;
Failure failure{};

void store_cell(uint64_t* to, uint64_t cell) {
  if (FLAG_FIRST) {
    uint32_t* half = reinterpret_cast<uint32_t*>(to);
    __atomic_store_n(half + 1, cell >> 32, __ATOMIC_RELAXED);
    std::this_thread::sleep_for(std::chrono::microseconds(50));
    __atomic_store_n(half, cell, __ATOMIC_RELAXED);
  } else {
    __atomic_store_n(to, cell, __ATOMIC_RELAXED);
  }
}

uint64_t load_cell(const uint64_t* from) {
  return __atomic_load_n(from, __ATOMIC_RELAXED);
}

// Carries out messages late, in any order, reading the source only then. Only
// a signal comes after its own payload, and a cell is whole.
class Network {
 public:
  explicit Network(unsigned seed) : random_(seed) {
    thread_ = std::thread([this] { run(); });
  }
  ~Network() {
    done_ = true;
    thread_.join();
  }
  void send(std::function<void(std::mt19937&)> message) {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(std::move(message));
  }

 private:
  void run() {
    while (true) {
      std::function<void(std::mt19937&)> message;
      {
        std::lock_guard<std::mutex> lock(mutex_);
        if (queue_.empty() && done_) return;
        if (!queue_.empty() && random_() % 4) {
          std::swap(queue_[random_() % queue_.size()], queue_.back());
          message = std::move(queue_.back());
          queue_.pop_back();
        }
      }
      if (message) {
        message(random_);
      } else {
        std::this_thread::yield();
      }
    }
  }

  std::mt19937 random_;
  std::mutex mutex_;
  std::vector<std::function<void(std::mt19937&)>> queue_;
  std::atomic<bool> done_{false};
  std::thread thread_;
};

struct Team {
  explicit Team(int size) : barrier(size) {}
  std::barrier<> barrier;
  std::atomic<bool> bad{false};
};

struct World {
  std::vector<char*> heap;  // of each PE
  bool reach = false;
};

struct ThreadWire {
  World& world;
  Network& network;
  Team& team;
  int pe, block_, thread_, threads_;
  bool slow;
  int reads_ = 0;

  int thread() const { return thread_; }
  int threads() const { return threads_; }
  int block() const { return block_; }
  bool all(bool ok) {
    if (!ok) team.bad = true;
    team.barrier.arrive_and_wait();
    const bool good = !team.bad;
    team.barrier.arrive_and_wait();
    return good;
  }
  uint64_t now() const {
    return std::chrono::steady_clock::now().time_since_epoch().count();
  }
  void pause() const { std::this_thread::yield(); }
  bool stopped() const { return gave_up; }
  void fail(const Failure& why) {
    std::lock_guard<std::mutex> lock(failure_mutex);
    if (!gave_up) failure = why;
    gave_up = true;
  }
  uint64_t load(const uint64_t* cell) {  // one rank reads slowly
    if (slow && ++reads_ % 8 == 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    return load_cell(cell);
  }
  void store(uint64_t* cell, uint64_t value) const { store_cell(cell, value); }
  uint64_t signalled(const uint64_t* word) const {
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
  }
  void settle(uint64_t*, uint64_t) const {}
  template <class T>
  T* there(T* here, int to) const {
    char* address = reinterpret_cast<char*>(here);
    return reinterpret_cast<T*>(world.heap[to] + (address - world.heap[pe]));
  }
  uint64_t* peer(uint64_t* word, int to) const {
    return world.reach ? there(word, to) : nullptr;
  }
  void put(uint64_t* to, const uint64_t* from, int64_t cells, int other) {
    if (thread_ != 0) return;
    uint64_t* target = there(to, other);
    network.send([=](std::mt19937& random) {
      std::vector<int64_t> order(cells);
      for (int64_t i = 0; i < cells; ++i) order[i] = i;
      std::shuffle(order.begin(), order.end(), random);
      for (int64_t i : order) store_cell(target + i, load_cell(from + i));
    });
  }
  void put_and_signal(uint32_t* to, const uint32_t* from, int64_t words,
                      uint64_t* word, uint64_t value, int other) {
    if (thread_ != 0) return;
    uint32_t* target = there(to, other);
    uint64_t* flag = there(word, other);
    network.send([=](std::mt19937&) {
      std::copy(from, from + words, target);
      __atomic_store_n(flag, value, __ATOMIC_RELEASE);
    });
  }
  void signal(uint64_t* word, uint64_t value, int other) {
    uint64_t* flag = there(word, other);
    network.send([=](std::mt19937&) {
      __atomic_store_n(flag, value, __ATOMIC_RELEASE);
    });
  }
};

struct Options {
  int nodes, blocks, threads, chunk, reach, absent, timeout, seed;
  int64_t first;
  std::vector<int64_t> lengths;
};

struct Step {
  int64_t count;
  int protocol;
  bool wide;
};

// A whole number, small enough for sums of ranks to be exact in bfloat16.
int part(int rank, int64_t i, int call) {
  return static_cast<int>((rank * 37 + i * 17 + call * 11) % 23) - 5;
}

uint16_t narrow(float value) { return as_bits(value) >> 16; }

struct Rank {
  std::vector<uint32_t> x, out;
};

template <class Element>
bool run_call(const Call<ThreadWire>& call, const Step& step, Rank& rank) {
  using Storage = typename Element::Storage;
  const Storage* x = reinterpret_cast<const Storage*>(rank.x.data());
  Storage* out = reinterpret_cast<Storage*>(rank.out.data());
  return step.protocol == kLl8
             ? all_reduce<Element, Ll8>(call, step.count, x, out)
             : all_reduce<Element, Simple>(call, step.count, x, out);
}

void fill(Rank& rank, int index, const Step& step, int call) {
  rank.x.assign(step.count + 1, 0);
  rank.out.assign(step.count + 1, 0x7fc07fc0);
  for (int64_t i = 0; i < step.count; ++i) {
    const float value = part(index, i, call);
    if (step.wide) {
      rank.x[i] = as_bits(value);
    } else {
      reinterpret_cast<uint16_t*>(rank.x.data())[i] = narrow(value);
    }
  }
}

int64_t count_wrong(const Rank& rank, int nodes, const Step& step, int call) {
  int64_t wrong = 0;
  for (int64_t i = 0; i <= step.count; ++i) {  // one past the end, too
    float sum = 0;
    for (int node = 0; node < nodes; ++node) sum += part(node, i, call);
    const uint16_t* halves = reinterpret_cast<const uint16_t*>(rank.out.data());
    const uint32_t got = step.wide ? rank.out[i] : halves[i];
    uint32_t expected = step.wide ? as_bits(sum) : narrow(sum);
    if (i == step.count) expected = step.wide ? 0x7fc07fc0 : 0x7fc0;
    wrong += got != expected;
  }
  return wrong;
}

std::vector<Step> steps_of(const Options& options) {
  std::vector<Step> steps;
  for (int64_t length : options.lengths) {
    for (int kind = 0; kind < 4; ++kind) {
      steps.push_back({length, kind / 2, kind % 2 == 0});
    }
  }
  std::mt19937 random(options.seed);
  std::shuffle(steps.begin(), steps.end(), random);
  return steps;
}

int run(const Options& options) {
  const std::vector<Step> steps = steps_of(options);
  std::vector<int32_t> members;
  for (int i = 0; i < options.nodes; ++i) members.push_back(2 * i + 1);
  World world;
  world.reach = options.reach;
  world.heap.resize(2 * options.nodes);
  std::vector<Plan> plans;
  std::vector<std::vector<uint64_t>> memory(options.nodes);
  Scratch scratch;
  scratch.words = *std::max_element(options.lengths.begin(),
                                    options.lengths.end());
  scratch.chunk = options.chunk;
  scratch.blocks = options.blocks;
  for (int i = 0; i < options.nodes; ++i) {
    plans.push_back(make_plan(members.data(), options.nodes, i));
    scratch.exchanges = plans[i].exchanges;
    memory[i].assign(scratch.bytes() / 8 + 1, 0);
    world.heap[members[i]] = reinterpret_cast<char*>(memory[i].data());
  }
  std::atomic<int64_t> wrong{0};
  std::vector<Rank> ranks(options.nodes);
  std::vector<std::thread> all;
  std::vector<std::unique_ptr<Network>> networks;
  std::vector<std::unique_ptr<Team>> teams, devices;
  const int width = options.blocks * options.threads;
  for (int i = 0; i < options.nodes; ++i) {
    networks.push_back(std::make_unique<Network>(options.seed + i));
    devices.push_back(std::make_unique<Team>(width));
    for (int block = 0; block < options.blocks; ++block) {
      teams.push_back(std::make_unique<Team>(options.threads));
    }
  }
  auto work = [&](int index, int block, int thread) {
    Scratch mine = scratch;
    mine.base = world.heap[members[index]];
    ThreadWire wire{world,
                    *networks[index],
                    *teams[index * options.blocks + block],
                    members[index],
                    block,
                    thread,
                    options.threads,
                    index == options.seed % options.nodes};
    auto& device = devices[index]->barrier;
    for (size_t call = 0; call < steps.size(); ++call) {
      const Step& step = steps[call];
      const bool leads = block == 0 && thread == 0;
      if (index == options.absent && call == 2) break;
      if (leads) fill(ranks[index], index, step, call);
      device.arrive_and_wait();
      Call<ThreadWire> one{wire, plans[index], mine, options.first + call,
                           options.timeout * uint64_t{1000000}};
      const int64_t words = step.wide ? words_of<Float32>(step.count)
                                      : words_of<Bfloat16>(step.count);
      bool ok = true;  // blocks with no chunk are not launched
      if (block < (words + options.chunk - 1) / options.chunk) {
        ok = step.wide ? run_call<Float32>(one, step, ranks[index])
                       : run_call<Bfloat16>(one, step, ranks[index]);
      }
      device.arrive_and_wait();
      if (ok && leads && !gave_up) {
        wrong += count_wrong(ranks[index], options.nodes, step, call);
      }
      device.arrive_and_wait();
      if (gave_up) break;
    }
    device.arrive_and_drop();
  };
  for (int i = 0; i < options.nodes; ++i) {
    for (int block = 0; block < options.blocks; ++block) {
      for (int thread = 0; thread < options.threads; ++thread) {
        all.emplace_back(work, i, block, thread);
      }
    }
  }
  for (std::thread& thread : all) thread.join();
  networks.clear();
  std::printf(
      "{\"calls\": %zu, \"wrong\": %lld, \"failed\": %u, \"peer\": %d, "
      "\"acknowledgement\": %u, \"expected\": %llu, \"seen\": %llu}\n",
      steps.size(), static_cast<long long>(wrong.load()), failure.failed,
      failure.peer, failure.acknowledgement,
      static_cast<unsigned long long>(failure.expected),
      static_cast<unsigned long long>(failure.seen));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "add") == 0) {
    for (int i = 2; i + 1 < argc; i += 2) {
      const uint32_t a = std::strtoul(argv[i], nullptr, 10);
      const uint32_t b = std::strtoul(argv[i + 1], nullptr, 10);
      std::printf("%u\n", Bfloat16::add(a, b));
    }
    return 0;
  }
  int number[8];
  for (int i = 0; i < 8; ++i) number[i] = std::atoi(argv[i + 1]);
  Options options{number[0], number[1], number[2], number[3], number[4],
                  number[5], number[6], number[7], std::atoll(argv[9]), {}};
  for (int i = 10; i < argc; ++i) {
    options.lengths.push_back(std::atoll(argv[i]));
  }
  return run(options);
}
