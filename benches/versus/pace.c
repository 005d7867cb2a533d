/* What wrk cannot do, for http.sh:
 *
 *   pace rate PORT PATH REQUESTS_PER_SECOND SECONDS CONNECTIONS
 *       An open loop: request i is due at start + i / rate, and its latency counts from then, whether or not a connection
 *       was free (so a stalled proxy cannot slow the clock that judges it). Prints requests, errors, p50 and p99 in us.
 *   pace idle PORT PATH CONNECTIONS
 *       Opens connections, one request on each, prints "ready", holds them until stdin ends, then prints how many of them
 *       were still open.
 *
 * Loopback only, keep-alive only, bodies with Content-Length only: what the origin of this bench sends.
 * C because it needs epoll with a timeout in nanoseconds and must cost less than the proxies it times. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 4096, BODY = 256 * 1024 };

struct conn {
    int fd;
    int busy;
    uint64_t due;   /* ns; of the request under way */
    size_t have;    /* bytes of the head read so far */
    int64_t left;   /* bytes of the body to come; -1: still in the head */
    char head[HEAD + 1];
};

static char request[1024];
static size_t request_len;
static char scratch[BODY];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void open_conn(struct conn *c, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->busy = 0;
}

static int send_request(struct conn *c, uint64_t due) {
    c->busy = 1, c->due = due, c->have = 0, c->left = -1;
    return send(c->fd, request, request_len, MSG_NOSIGNAL) == (ssize_t)request_len ? 0 : -1;
}

/* One read. 1: the answer is whole; 0: more is to come; -1: not a 2xx with a length, or the connection ended. */
static int read_answer(struct conn *c, int flags) {
    if (c->left > 0) {
        ssize_t n = recv(c->fd, scratch, sizeof scratch, flags);
        if (n < 0 && errno == EAGAIN) return 0;
        if (n <= 0 || n > c->left) return -1;
        c->left -= n;
        return c->left == 0;
    }
    ssize_t n = recv(c->fd, c->head + c->have, HEAD - c->have, flags);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n <= 0) return -1;
    c->have += (size_t)n;
    c->head[c->have] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) return c->have == HEAD ? -1 : 0;
    char *length = strcasestr(c->head, "\r\ncontent-length:");
    if (strncmp(c->head, "HTTP/1.1 2", 10) != 0 || !length || length > end) return -1;
    size_t head = (size_t)(end + 4 - c->head);
    c->left = atoll(length + 17) - (int64_t)(c->have - head);
    return c->left < 0 ? -1 : c->left == 0;
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int rate(int port, double per_second, double seconds, int count) {
    uint64_t total = (uint64_t)(per_second * seconds), warm = total / 10, started = 0, done = 0, errors = 0, kept = 0;
    double gap = 1e9 / per_second;
    struct conn *conns = calloc((size_t)count, sizeof *conns), **idle = calloc((size_t)count, sizeof *idle);
    uint32_t *latency = calloc(total + 1, sizeof *latency);
    int ready = 0, poll = epoll_create1(0);
    if (!conns || !idle || !latency || poll < 0) die("set up");
    prctl(PR_SET_TIMERSLACK, 1ul);
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &conns[i]};
        open_conn(&conns[i], port);
        if (epoll_ctl(poll, EPOLL_CTL_ADD, conns[i].fd, &event) < 0) die("epoll_ctl");
        idle[ready++] = &conns[i];
    }
    uint64_t start = now_ns() + 1000000, give_up = start + (uint64_t)(seconds * 1e9) + 5000000000ull;
    while (done < total) {
        uint64_t now = now_ns();
        if (now > give_up) {
            errors += total - done;
            break;
        }
        while (started < total && ready > 0) {
            uint64_t due = start + (uint64_t)((double)started * gap);
            if (due > now) break;
            if (send_request(idle[--ready], due) < 0) return fprintf(stderr, "pace: the proxy closed a connection\n"), 1;
            started++;
        }
        uint64_t next = start + (uint64_t)((double)started * gap), wait = 100000000;
        if (started < total && ready > 0) wait = next > now ? next - now : 0;
        struct timespec timeout = {(time_t)(wait / 1000000000ull), (long)(wait % 1000000000ull)};
        struct epoll_event events[128];
        int n = epoll_pwait2(poll, events, 128, &timeout, NULL);
        if (n < 0 && errno != EINTR) die("epoll_pwait2");
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            int answer = read_answer(c, MSG_DONTWAIT);
            if (answer == 0) continue;
            if (answer < 0 || !c->busy) return fprintf(stderr, "pace: bad answer or closed connection\n"), 1;
            if (done++ >= warm) latency[kept++] = (uint32_t)((now_ns() - c->due) / 1000);
            c->busy = 0;
            idle[ready++] = c;
        }
    }
    qsort(latency, kept, sizeof *latency, by_value);
    uint32_t p50 = kept ? latency[kept / 2] : 0, p99 = kept ? latency[kept * 99 / 100] : 0;
    printf("RESULT %lu %lu %u %u\n", (unsigned long)done, (unsigned long)errors, p50, p99);
    return errors != 0;
}

static int idle(int port, int count) {
    struct conn c;
    int *fds = calloc((size_t)count, sizeof *fds), open = 0, answer;
    if (!fds) die("set up");
    for (int i = 0; i < count; i++) {
        open_conn(&c, port);
        if (send_request(&c, 0) < 0) die("send");
        while ((answer = read_answer(&c, 0)) == 0) {}
        if (answer < 0) return fprintf(stderr, "pace: bad answer on connection %d\n", i), 1;
        fds[i] = c.fd;
    }
    printf("ready\n");
    fflush(stdout);
    while (read(0, scratch, sizeof scratch) > 0) {}
    for (int i = 0; i < count; i++) {
        ssize_t n = recv(fds[i], scratch, 1, MSG_DONTWAIT);
        open += n < 0 && errno == EAGAIN;
    }
    printf("%d\n", open);
    return open != count;
}

int main(int argc, char **argv) {
    if (argc < 5) return fprintf(stderr, "usage: pace rate PORT PATH RATE SECONDS CONNECTIONS | pace idle PORT PATH COUNT\n"), 2;
    int port = atoi(argv[2]);
    request_len = (size_t)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: versus.test\r\n\r\n", argv[3]);
    if (strcmp(argv[1], "rate") == 0 && argc == 7) return rate(port, atof(argv[4]), atof(argv[5]), atoi(argv[6]));
    if (strcmp(argv[1], "idle") == 0) return idle(port, atoi(argv[4]));
    return 2;
}
