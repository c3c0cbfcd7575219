// Times collectives inside SimGrid, in simulated seconds: one line a size.
//
//   simgrid_worker all_reduce|all_gather|reduce_scatter BYTES...
//   simgrid_worker FILE BYTES...
//
// BYTES is the whole buffer, of floats. FILE describes a schedule: the number of
// slots, then `tick source target slots` for each message; a rank waits for all
// its messages of a tick before it goes on.
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
  int tick, peer, slots, sends;
} Message;

static int rank, size, count, slots;
static Message *messages;
static char *out, *in;

static void load(const char *path) {
  FILE *file = fopen(path, "r");
  int tick, src, dst, sent, room = 0;
  if (!file || fscanf(file, "%d", &slots) != 1) MPI_Abort(MPI_COMM_WORLD, 2);
  while (fscanf(file, "%d %d %d %d", &tick, &src, &dst, &sent) == 4) {
    if (src != rank && dst != rank) continue;
    if (count == room) {
      room = room ? 2 * room : 64;
      messages = realloc(messages, room * sizeof(Message));
    }
    messages[count++] =
        (Message){tick, src == rank ? dst : src, sent, src == rank};
  }
  fclose(file);
}

static void replay(long bytes) {
  MPI_Request *open = malloc(count * sizeof(MPI_Request));
  for (int i = 0; i < count;) {
    int posted = 0;
    for (int tick = messages[i].tick; i < count && messages[i].tick == tick;
         i++) {
      Message m = messages[i];
      int length = bytes / slots * m.slots;
      if (m.sends)
        MPI_Isend(out, length, MPI_BYTE, m.peer, tick, MPI_COMM_WORLD,
                  &open[posted++]);
      else
        MPI_Irecv(in, length, MPI_BYTE, m.peer, tick, MPI_COMM_WORLD,
                  &open[posted++]);
    }
    MPI_Waitall(posted, open, MPI_STATUSES_IGNORE);
  }
  free(open);
}

static void run(const char *what, long bytes) {
  int all = bytes / sizeof(float), one = all / size;
  if (!strcmp(what, "all_reduce"))
    MPI_Allreduce(out, in, all, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  else if (!strcmp(what, "all_gather"))
    MPI_Allgather(out, one, MPI_FLOAT, in, one, MPI_FLOAT, MPI_COMM_WORLD);
  else if (!strcmp(what, "reduce_scatter"))
    MPI_Reduce_scatter_block(out, in, one, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  else
    replay(bytes);
}

// Lets all ranks go on at the same simulated time, and returns it.
static double align(void) {
  double now = MPI_Wtime(), last;
  PMPI_Allreduce(&now, &last, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  last += 1;
  double rest = last - MPI_Wtime();
  struct timespec pause = {(time_t)rest, (rest - (time_t)rest) * 1e9};
  nanosleep(&pause, NULL);
  return last;
}

int main(int argc, char **argv) {
  long most = 0;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  for (int i = 2; i < argc; i++)
    if (atol(argv[i]) > most) most = atol(argv[i]);
  out = SMPI_SHARED_MALLOC(most);
  in = SMPI_SHARED_MALLOC(most);
  if (strchr(argv[1], '.')) load(argv[1]);
  for (int i = 2; i < argc; i++) {
    double start = align();
    run(argv[1], atol(argv[i]));
    double took = MPI_Wtime() - start, longest;
    PMPI_Allreduce(&took, &longest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    if (rank == 0) printf("%ld %.12g\n", atol(argv[i]), longest);
  }
  SMPI_SHARED_FREE(out);
  SMPI_SHARED_FREE(in);
  MPI_Finalize();
  return 0;
}
