// The recursive doubling of protocol.h on NVSHMEM, as a call of `jax.ffi`.
//
// One process drives one GPU, and is one PE. All PEs open the same
// communicators in the same order, and make the same calls in the same order.

#include <cuda_runtime.h>
#include <nvshmem.h>
#include <nvshmemx.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "protocol.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace dectet {
namespace {

constexpr int kThreads = 512;

// What a GPU and NVSHMEM do. A failure ends the kernel with an error: nobody
// sees a sum in which somebody's part is missing.
struct NvshmemWire {
  volatile Failure* failure;

  __device__ int thread() const { return threadIdx.x; }
  __device__ int threads() const { return blockDim.x; }
  __device__ int block() const { return blockIdx.x; }
  __device__ bool all(bool ok) const { return __syncthreads_and(ok); }
  __device__ uint64_t now() const {
    uint64_t time;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time));
    return time;
  }
  __device__ void pause() const { __nanosleep(64); }
  __device__ bool stopped() const { return false; }
  __device__ void fail(const Failure& why) const {
    failure->peer = why.peer;
    failure->exchange = why.exchange;
    failure->acknowledgement = why.acknowledgement;
    failure->expected = why.expected;
    failure->seen = why.seen;
    __threadfence_system();
    failure->failed = why.failed;
    __threadfence_system();
    __trap();
  }
  __device__ uint64_t load(const uint64_t* cell) const {
    uint64_t value;
    asm volatile("ld.relaxed.sys.global.u64 %0, [%1];"
                 : "=l"(value) : "l"(cell) : "memory");
    return value;
  }
  __device__ void store(uint64_t* cell, uint64_t value) const {
    asm volatile("st.relaxed.sys.global.u64 [%0], %1;"
                 :: "l"(cell), "l"(value) : "memory");
  }
  __device__ uint64_t signalled(const uint64_t* word) const {
    uint64_t value;
    asm volatile("ld.acquire.sys.global.u64 %0, [%1];"
                 : "=l"(value) : "l"(word) : "memory");
    return value;
  }
  // Returns at once, after what a NIC's writes need on some machines.
  __device__ void settle(uint64_t* word, uint64_t value) const {
    nvshmem_signal_wait_until(word, NVSHMEM_CMP_GE, value);
  }
  // The same word on a PE within reach of plain stores, or null.
  __device__ uint64_t* peer(uint64_t* word, int pe) const {
    return static_cast<uint64_t*>(nvshmem_ptr(word, pe));
  }
  __device__ void put(uint64_t* to, const uint64_t* from, int64_t cells,
                      int pe) const {
    __threadfence_system();
    nvshmemx_putmem_nbi_block(to, from, cells * sizeof(uint64_t), pe);
  }
  __device__ void put_and_signal(uint32_t* to, const uint32_t* from,
                                 int64_t words, uint64_t* signal,
                                 uint64_t value, int pe) const {
    __threadfence_system();
    nvshmemx_putmem_signal_nbi_block(to, from, words * sizeof(uint32_t), signal,
                                     value, NVSHMEM_SIGNAL_SET, pe);
  }
  __device__ void signal(uint64_t* word, uint64_t value, int pe) const {
    __threadfence_system();
    nvshmemx_signal_op(word, value, NVSHMEM_SIGNAL_SET, pe);
  }
};

}  // namespace

template <class Element, template <class> class Rules>
__global__ void __launch_bounds__(kThreads)
    inter_node(const __grid_constant__ Plan plan,
               const __grid_constant__ Scratch scratch, Failure* failure,
               uint64_t sequence, uint64_t timeout, int64_t count,
               const typename Element::Storage* x,
               typename Element::Storage* out) {
  NvshmemWire wire{failure};
  Call<NvshmemWire> call{wire, plan, scratch, sequence, timeout};
  all_reduce<Element, Rules>(call, count, x, out);
}

namespace {

// One per mesh axis; it lives until the process ends.
struct Communicator {
  std::string name;
  Plan plan;
  Scratch scratch;
  uint64_t timeout;
  Failure* failure = nullptr;  // host memory that the GPU writes
  uint64_t sequence = 0;
  cudaEvent_t done = nullptr;
  std::mutex mutex;
};

std::mutex registry_mutex;
std::vector<std::unique_ptr<Communicator>> registry;

Communicator* find(int64_t index) {
  std::lock_guard<std::mutex> lock(registry_mutex);
  if (index < 0 || index >= static_cast<int64_t>(registry.size())) {
    return nullptr;
  }
  return registry[index].get();
}

// The reason why a call cannot be, or nothing.
std::string refuse(const Communicator* communicator, int64_t index,
                   int32_t protocol, bool dtype_known, int64_t words,
                   int64_t x_size, int64_t out_size) {
  if (protocol < 0 || protocol >= kProtocols) {
    return "protocol: got " + std::to_string(protocol) +
           ", expected 0 (ll8) or 1 (simple)";
  }
  if (!dtype_known) {
    return "x: got another dtype, expected float32 or bfloat16; cast it";
  }
  if (x_size != out_size) {
    return "result: got " + std::to_string(out_size) + " elements, expected " +
           std::to_string(x_size);
  }
  if (communicator == nullptr) {
    return "communicator: got " + std::to_string(index) +
           ", expected one that this process has opened; call start() first";
  }
  if (words > communicator->scratch.words) {
    return "x: got " + std::to_string(4 * words) + " bytes, expected at most " +
           std::to_string(4 * communicator->scratch.words) +
           "; give start() a larger max_bytes";
  }
  return "";
}

std::string describe(const Communicator& communicator) {
  const volatile Failure& failure = *communicator.failure;
  if (!failure.failed) return "";
  char text[256];
  std::snprintf(text, sizeof text,
                "%s: PE %d %s in exchange %d: got sequence %llu, expected "
                "%llu; it has died, hangs, or runs another program",
                communicator.name.c_str(), failure.peer,
                failure.acknowledgement ? "has not read an earlier message"
                                        : "has sent nothing",
                failure.exchange,
                static_cast<unsigned long long>(failure.seen),
                static_cast<unsigned long long>(failure.expected));
  return text;
}

template <class Element>
const void* kernel_of(int32_t protocol) {
  return protocol == kLl8
             ? reinterpret_cast<const void*>(inter_node<Element, Ll8>)
             : reinterpret_cast<const void*>(inter_node<Element, Simple>);
}

// A cooperative launch: all blocks run at once, so that none spins for a peer
// whose block waits for room.
cudaError_t launch(Communicator& communicator, cudaStream_t stream,
                   const void* kernel, int64_t words, int64_t count,
                   const void* x, void* out) {
  const Scratch& scratch = communicator.scratch;
  const int64_t chunks = (words + scratch.chunk - 1) / scratch.chunk;
  const int64_t blocks = chunks < scratch.blocks ? chunks : scratch.blocks;
  std::lock_guard<std::mutex> lock(communicator.mutex);
  uint64_t sequence = communicator.sequence + 1;
  void* arguments[] = {&communicator.plan,    &communicator.scratch,
                       &communicator.failure, &sequence,
                       &communicator.timeout, &count,
                       &x,                    &out};
  // The scratch is one call's at a time, whatever streams XLA takes.
  cudaError_t error = cudaStreamWaitEvent(stream, communicator.done, 0);
  if (error != cudaSuccess) return error;
  error = cudaLaunchCooperativeKernel(kernel, dim3(blocks), dim3(kThreads),
                                      arguments, 0, stream);
  if (error != cudaSuccess) return error;
  communicator.sequence = sequence;
  return cudaEventRecord(communicator.done, stream);
}

ffi::Error call(cudaStream_t stream, ffi::AnyBuffer x, int64_t index,
                int32_t protocol, ffi::Result<ffi::AnyBuffer> out) {
  const ffi::DataType dtype = x.element_type();
  const bool wide = dtype == ffi::F32;
  const bool known =
      (wide || dtype == ffi::BF16) && out->element_type() == dtype;
  const int64_t count = x.element_count();
  const int64_t words =
      wide ? words_of<Float32>(count) : words_of<Bfloat16>(count);
  Communicator* communicator = find(index);
  const std::string reason = refuse(communicator, index, protocol, known, words,
                                    count, out->element_count());
  if (!reason.empty()) return ffi::Error::InvalidArgument(reason);
  const std::string failure = describe(*communicator);
  if (!failure.empty()) {
    return ffi::Error(ffi::ErrorCode::kDeadlineExceeded, failure);
  }
  if (count == 0) return ffi::Error::Success();
  const void* kernel =
      wide ? kernel_of<Float32>(protocol) : kernel_of<Bfloat16>(protocol);
  const cudaError_t error = launch(*communicator, stream, kernel, words, count,
                                   x.untyped_data(), out->untyped_data());
  if (error == cudaSuccess) return ffi::Error::Success();
  return ffi::Error::Internal(cudaGetErrorString(error));
}

int say(char* text, int64_t size, const std::string& reason) {
  std::snprintf(text, size, "%s", reason.c_str());
  return reason.empty() ? 0 : 1;
}

#define DECTET_TRY(what)                                          \
  if (const cudaError_t error = (what); error != cudaSuccess) {   \
    return say(text, size, cudaGetErrorString(error));            \
  }

}  // namespace
}  // namespace dectet

XLA_FFI_DEFINE_HANDLER_SYMBOL(dectet_inter_node_all_reduce, dectet::call,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::PlatformStream<cudaStream_t>>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Attr<int64_t>("communicator")
                                  .Attr<int32_t>("protocol")
                                  .Ret<ffi::AnyBuffer>());

// What Python calls. Those that can fail return 1 and say why in `text`.
extern "C" {

int64_t dectet_unique_id_bytes() { return sizeof(nvshmemx_uniqueid_t); }

int dectet_unique_id(char* id, char* text, int64_t size) {
  nvshmemx_uniqueid_t unique = NVSHMEMX_UNIQUEID_INITIALIZER;
  if (nvshmemx_get_uniqueid(&unique) != 0) {
    return dectet::say(text, size, "NVSHMEM gives no unique id");
  }
  memcpy(id, &unique, sizeof unique);
  return 0;
}

int dectet_start(int32_t device, int32_t rank, int32_t ranks, const char* id,
                 char* text, int64_t size) {
  using dectet::say;
  DECTET_TRY(cudaSetDevice(device));
  nvshmemx_uniqueid_t unique;
  memcpy(&unique, id, sizeof unique);
  nvshmemx_init_attr_t attributes = NVSHMEMX_INIT_ATTR_INITIALIZER;
  nvshmemx_set_attr_uniqueid_args(rank, ranks, &unique, &attributes);
  if (nvshmemx_init_attr(NVSHMEMX_INIT_WITH_UNIQUEID, &attributes) != 0) {
    return say(text, size, "NVSHMEM does not start: set NVSHMEM_DEBUG=INFO");
  }
  return 0;
}

// Takes symmetric memory for an axis. Collective over all PEs.
int dectet_open(const char* name, const int32_t* members, int32_t count,
                int32_t index, int64_t words, int64_t chunk, int64_t blocks,
                uint64_t timeout, char* text, int64_t size) {
  using dectet::say;
  auto made = std::make_unique<dectet::Communicator>();
  made->name = name;
  made->plan = dectet::make_plan(members, count, index);
  made->timeout = timeout;
  dectet::Scratch& scratch = made->scratch;
  scratch.exchanges = made->plan.exchanges;
  scratch.words = words;
  scratch.chunk = chunk;
  scratch.blocks = blocks;
  const int64_t bytes = scratch.bytes();
  scratch.base = static_cast<char*>(nvshmem_calloc(1, bytes ? bytes : 8));
  if (scratch.base == nullptr) {
    return say(text, size,
               "NVSHMEM has no " + std::to_string(bytes) +
                   " bytes left; raise NVSHMEM_SYMMETRIC_SIZE or lower "
                   "max_bytes");
  }
  DECTET_TRY(cudaHostAlloc(reinterpret_cast<void**>(&made->failure),
                           sizeof(dectet::Failure), cudaHostAllocMapped));
  memset(made->failure, 0, sizeof(dectet::Failure));
  DECTET_TRY(cudaEventCreateWithFlags(&made->done, cudaEventDisableTiming));
  std::lock_guard<std::mutex> lock(dectet::registry_mutex);
  dectet::registry.push_back(std::move(made));
  return 0;
}

// Whether a call could be; the handler asks the same.
int dectet_check(int64_t communicator, int32_t protocol, int32_t dtype_known,
                 int64_t words, char* text, int64_t size) {
  return dectet::say(
      text, size,
      dectet::refuse(dectet::find(communicator), communicator, protocol,
                     dtype_known, words, words, words));
}

// Who was missing, if a call has failed.
int dectet_failure(int64_t communicator, char* text, int64_t size) {
  const dectet::Communicator* found = dectet::find(communicator);
  return dectet::say(text, size, found ? dectet::describe(*found) : "");
}

}  // extern "C"
