/* The generator and the sink of packets.sh, on one interface: what the balancer sends comes back where its load came from.
 *
 *   packets check DEVICE MODE FLOWS
 *       One packet of each flow to the VIP, the answer of its endpoint, and one more, as NAT wants to see before it believes in
 *       a flow. Whatever comes back is judged: addresses, ports, tunnel, checksums. Prints how many distinct flows came, of how
 *       many endpoints. Fails when a flow does not come, or comes wrong.
 *   packets load DEVICE FLOWS STEP_MS FINAL_MS FIXED_PER_SECOND PID...
 *       Offers frames of 60 bytes (UDP) of so many flows in turn: at a fixed rate, at rising rates until far more is offered than
 *       comes back, around the best of those, as fast as it can, and in the end for longer at the best rate. Prints each step:
 *       what was offered, what came back, and the time that the threads of the processes PID had on a core meanwhile.
 *
 * Load is made by an XDP program that the kernel runs over and over (BPF_PROG_TEST_RUN with live frames) and that waits for
 * each frame to be due: several million a second from one core, where packet sockets make no more than a fast balancer
 * takes. What comes back is counted and dropped by another one, before the kernel makes anything of it.
 * Every run is bounded in time and count; nothing is left when it ends, however it ends. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The network of packets.sh. */
enum { ENDPOINTS = 16, FIRST_ENDPOINT = 41, SOURCES = 3, FIRST_SOURCE = 3, PORT = 80, ENDPOINT_PORT = 8080, GUE_PORT = 6080 };
static const uint8_t balancer_mac[6] = {2, 0, 0, 0, 0, 2}, router_mac[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t network[3] = {10, 0, 0};
enum { VIP = 100, FLOWS = 1 << 20, LONGEST_MS = 60 * 1000 };

enum { FRAME = 60, IP = 14, UDP = IP + 20, PAYLOAD = UDP + 8, UDP_LEN = FRAME - UDP };
enum { WINDOW = 128, SETTLE_MS = 30, BURST = 128 };

static void die(const char *what) {
    if (errno) perror(what); else fprintf(stderr, "packets: %s\n", what);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* ---- frames ---- */

static uint64_t sum(const uint8_t *bytes, size_t len) {
    uint64_t total = 0;
    for (size_t i = 0; i + 1 < len; i += 2) total += (uint64_t)(bytes[i] << 8 | bytes[i + 1]);
    if (len & 1) total += (uint64_t)bytes[len - 1] << 8;
    return total;
}

static uint16_t fold(uint64_t total) {
    while (total >> 16) total = (total & 0xffff) + (total >> 16);
    return (uint16_t)total;
}

static void put16(uint8_t *at, unsigned value) { at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value; }
static unsigned get16(const uint8_t *at) { return (unsigned)(at[0] << 8 | at[1]); }

static uint64_t udp_sum(const uint8_t *ip) {
    const uint8_t *udp = ip + 20;
    return sum(ip + 12, 8) + 17 + get16(udp + 4) + sum(udp, get16(udp + 4));
}

/* Flow n: another client, and another port of it once there are no more. */
static void make(uint8_t *frame, uint32_t flow) {
    memset(frame, 0, FRAME);
    memcpy(frame, balancer_mac, 6), memcpy(frame + 6, router_mac, 6), put16(frame + 12, ETH_P_IP);
    uint8_t *ip = frame + IP, *udp = frame + UDP;
    ip[0] = 0x45, put16(ip + 2, FRAME - IP), ip[8] = 64, ip[9] = 17;
    ip[12] = 198, ip[13] = 18, put16(ip + 14, flow & 0xffff);
    memcpy(ip + 16, network, 3), ip[19] = VIP;
    put16(ip + 10, (uint16_t)~fold(sum(ip, 20)));
    put16(udp, 1024 + (flow >> 16)), put16(udp + 2, PORT), put16(udp + 4, UDP_LEN);
    memcpy(frame + PAYLOAD, &flow, sizeof flow);
    put16(udp + 6, (uint16_t)~fold(udp_sum(ip)));
}

/* ---- check ---- */

static int tap(unsigned device) {
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)device};
    int one = 1, room = 16 << 20, fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    if (fd < 0) die("socket");
    if (setsockopt(fd, SOL_PACKET, 23 /* PACKET_IGNORE_OUTGOING */, &one, sizeof one) < 0) die("ignore outgoing");
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0) die("bind");
    return fd;
}

static int is_endpoint(const uint8_t *address) {
    return memcmp(address, network, 3) == 0 && address[3] >= FIRST_ENDPOINT && address[3] < FIRST_ENDPOINT + ENDPOINTS;
}

/* The endpoint that a frame is for, or -1 for what is not of this test; `inside` becomes the client's packet in it. Dies where
 * the frame is not what MODE makes of a client's. */
static int judge(const char *mode, const uint8_t *frame, size_t len, const uint8_t **inside) {
    static const uint8_t endpoint_mac[5] = {2, 0, 0, 0, 1};
    if (len < FRAME || get16(frame + 12) != ETH_P_IP || memcmp(frame, endpoint_mac, 5) != 0) return -1;
    const uint8_t *ip = frame + IP, *end = frame + len;
    int endpoint = frame[5] - FIRST_ENDPOINT;
    errno = 0;
    if (fold(sum(ip, 20)) != 0xffff) die("a header checksum is wrong");
    if (strcmp(mode, "ipip") == 0 || strcmp(mode, "gue") == 0) {
        if (!is_endpoint(ip + 16) || ip[19] != frame[5]) die("a tunnel leads to another host than its frame");
        int gue = mode[0] == 'g';
        if (ip[9] != (gue ? 17 : 4) || (gue && get16(ip + 22) != GUE_PORT)) die("this is no tunnel of the mode");
        ip += gue ? 32 : 20;
        if (ip + (FRAME - IP) > end || fold(sum(ip, 20)) != 0xffff) die("the packet in the tunnel is broken");
    }
    int direct = strcmp(mode, "l2") == 0 || ip != frame + IP;
    if (direct ? ip[19] != VIP || get16(ip + 22) != PORT : !is_endpoint(ip + 16) || ip[19] != frame[5])
        die("a packet is for an address that its mode does not send to");
    if (strncmp(mode, "l4", 2) == 0 && get16(ip + 22) != ENDPOINT_PORT) die("a port was not translated");
    int full = strstr(mode, "full-nat") != NULL;
    if (full ? memcmp(ip + 12, network, 3) != 0 || ip[15] < FIRST_SOURCE || ip[15] >= FIRST_SOURCE + SOURCES
             : ip[12] != 198 || ip[13] != 18)
        die("a packet is from an address that its mode does not send from");
    if (fold(udp_sum(ip)) != 0xffff) die("a UDP checksum is wrong");
    *inside = ip;
    return endpoint;
}

/* The endpoint's answer, back to the balancer. */
static void answer(int fd, const uint8_t *frame, size_t len) {
    uint8_t back[FRAME];
    if (len < FRAME) return;
    memcpy(back, frame, FRAME);
    memcpy(back, balancer_mac, 6), memcpy(back + 6, frame, 6);
    memcpy(back + IP + 12, frame + IP + 16, 4), memcpy(back + IP + 16, frame + IP + 12, 4);
    memcpy(back + UDP, frame + UDP + 2, 2), memcpy(back + UDP + 2, frame + UDP, 2);
    if (send(fd, back, FRAME, 0) < 0 && errno != ENOBUFS) die("send an answer");
}

/* Sends what has not come back yet, never much at a time, and takes what comes. Returns how many flows are missing. */
static uint32_t pass(int fd, const char *mode, uint32_t flows, uint8_t *seen, uint8_t mark, uint32_t *shares) {
    int answers = strstr(mode, "nat") != NULL;
    uint32_t missing = 0;
    for (uint32_t flow = 0; flow < flows; flow++) missing += !(seen[flow] & mark);
    uint32_t next = 0, under_way = 0;
    uint64_t heard = now_ns();
    while (missing && (next < flows || now_ns() - heard < 200 * 1000 * 1000)) {
        for (; next < flows && under_way < WINDOW; next++) {
            uint8_t frame[FRAME];
            if (seen[next] & mark) continue;
            make(frame, next);
            if (send(fd, frame, FRAME, 0) == FRAME) under_way++;
        }
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (poll(&wait, 1, 20) == 0) {
            under_way = 0; /* lost, or dropped: a later pass sends them again */
            continue;
        }
        for (;;) {
            uint8_t frame[2048];
            const uint8_t *inside;
            ssize_t len = recv(fd, frame, sizeof frame, MSG_DONTWAIT);
            if (len < 0) break;
            int endpoint = judge(mode, frame, (size_t)len, &inside);
            if (endpoint < 0) continue;
            uint32_t flow;
            memcpy(&flow, inside + 28, sizeof flow);
            if (flow >= flows) die("a packet came that was never sent");
            under_way -= under_way > 0;
            heard = now_ns();
            if (answers) answer(fd, frame, (size_t)len);
            if (seen[flow] & mark) continue;
            seen[flow] |= mark, missing--;
            shares[endpoint] += mark == 1;
        }
    }
    return missing;
}

static int check(unsigned device, const char *mode, uint32_t flows) {
    int fd = tap(device), endpoints = 0;
    uint8_t *seen = calloc(flows, 1);
    uint32_t shares[ENDPOINTS] = {0};
    if (!seen) die("calloc");
    /* In parts, so that no more flows are unanswered at a time than a balancer keeps; and the balancer may need a moment. */
    for (uint32_t part = 0; part < flows; part += 16384) {
        uint32_t until = flows < part + 16384 ? flows : part + 16384;
        for (uint8_t mark = 1; mark <= 2; mark++) {
            uint32_t missing = until, tries = 0;
            while (missing && tries++ < 25) missing = pass(fd, mode, until, seen, mark, shares);
            if (missing) {
                errno = 0;
                fprintf(stderr, "packets: %s: %u of %u flows did not come through\n", mode, missing, until);
                return 1;
            }
        }
    }
    for (int i = 0; i < ENDPOINTS; i++) endpoints += shares[i] > 0;
    printf("RESULT %u %d\n", flows, endpoints);
    return 0;
}

/* ---- programs ---- */

/* What the generator's program keeps between frames; the sums are of the checksums' other words. */
struct state {
    uint64_t flow, flows, due, gap_ns, ip_sum, udp_sum, offered;
};

static int bpf(enum bpf_cmd command, union bpf_attr *attr) {
    return (int)syscall(SYS_bpf, command, attr, sizeof *attr);
}

#define INSN(op, to, from, offset, value) ((struct bpf_insn){.code = (op), .dst_reg = (to), .src_reg = (from), .off = (offset), .imm = (value)})
#define LOAD(size, to, from, offset) INSN(BPF_LDX | BPF_MEM | (size), to, from, offset, 0)
#define STORE(size, to, offset, from) INSN(BPF_STX | BPF_MEM | (size), to, from, offset, 0)
#define MOVE(to, from) INSN(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0)
#define SET(to, value) INSN(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value)
#define OP(op, to, from) INSN(BPF_ALU64 | (op) | BPF_X, to, from, 0, 0)
#define OP_K(op, to, value) INSN(BPF_ALU64 | (op) | BPF_K, to, 0, 0, value)
#define TO_BE16(to) INSN(BPF_ALU | BPF_END | BPF_TO_BE, to, 0, 0, 16)
#define IF(op, left, right, skip) INSN(BPF_JMP | (op) | BPF_X, left, right, skip, 0)
#define IF_K(op, left, value, skip) INSN(BPF_JMP | (op) | BPF_K, left, 0, skip, value)
#define GO(skip) INSN(BPF_JMP | BPF_JA, 0, 0, skip, 0)
#define CALL(function) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, function)
#define EXIT INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
#define FIELD(name) ((short)offsetof(struct state, name))
/* The complement of a folded sum: what a checksum field holds. */
#define FOLD(reg, scratch) \
    MOVE(scratch, reg), OP_K(BPF_RSH, scratch, 16), OP_K(BPF_AND, reg, 0xffff), OP(BPF_ADD, reg, scratch), \
    MOVE(scratch, reg), OP_K(BPF_RSH, scratch, 16), OP(BPF_ADD, reg, scratch), OP_K(BPF_XOR, reg, 0xffff)

static int load_program(const struct bpf_insn *code, size_t count) {
    union bpf_attr attr = {.prog_type = BPF_PROG_TYPE_XDP, .insns = (uintptr_t)code, .insn_cnt = (uint32_t)count,
                           .license = (uintptr_t)"GPL"};
    int fd = bpf(BPF_PROG_LOAD, &attr);
    if (fd < 0) die("load a program");
    return fd;
}

/* Registers: 6 the frame, 7 turns left to wait, 8 the flow, 9 the state. */
static int generator(int map) {
    struct bpf_insn code[128];
    size_t count = 0;
#define ADD(...) do { \
        const struct bpf_insn part[] = {__VA_ARGS__}; \
        memcpy(code + count, part, sizeof part), count += sizeof part / sizeof *part; \
    } while (0)
    ADD(LOAD(BPF_W, 6, 1, offsetof(struct xdp_md, data)), LOAD(BPF_W, 2, 1, offsetof(struct xdp_md, data_end)),
        MOVE(3, 6), OP_K(BPF_ADD, 3, FRAME), IF(BPF_JLE, 3, 2, 2), SET(0, XDP_DROP), EXIT,
        INSN(BPF_LD | BPF_DW | BPF_IMM, 9, BPF_PSEUDO_MAP_VALUE, 0, map), INSN(0, 0, 0, 0, 0));
    /* Whoever had this memory before has rewritten what was in it. */
    uint8_t frame[FRAME];
    make(frame, 0);
    for (short at = 0; at < FRAME; at += 4) {
        int word;
        memcpy(&word, frame + at, sizeof word);
        ADD(INSN(BPF_ST | BPF_MEM | BPF_W, 6, 0, at, word));
    }
    /* Wait until it is due; 100 us at most. */
    ADD(LOAD(BPF_DW, 2, 9, FIELD(gap_ns)), IF_K(BPF_JEQ, 2, 0, 14),
        SET(7, 4000),
        CALL(BPF_FUNC_ktime_get_ns), LOAD(BPF_DW, 1, 9, FIELD(due)), IF(BPF_JGE, 0, 1, 2),
        OP_K(BPF_SUB, 7, 1), IF_K(BPF_JNE, 7, 0, -5),
        /* The next one is due a gap later; what is late by more than 200 us is not made up for. */
        LOAD(BPF_DW, 2, 9, FIELD(gap_ns)), OP(BPF_ADD, 1, 2), MOVE(3, 1), OP_K(BPF_ADD, 3, 200 * 1000),
        IF(BPF_JGE, 3, 0, 2), MOVE(1, 0), GO(0),
        STORE(BPF_DW, 9, FIELD(due), 1));
    /* Its flow, and the next one's. */
    ADD(LOAD(BPF_DW, 8, 9, FIELD(flow)), MOVE(1, 8), OP_K(BPF_ADD, 1, 1), LOAD(BPF_DW, 2, 9, FIELD(flows)),
        IF(BPF_JLT, 1, 2, 1), SET(1, 0), STORE(BPF_DW, 9, FIELD(flow), 1),
        LOAD(BPF_DW, 1, 9, FIELD(offered)), OP_K(BPF_ADD, 1, 1), STORE(BPF_DW, 9, FIELD(offered), 1));
    /* Its address and port, and both checksums. */
    ADD(MOVE(1, 8), OP_K(BPF_AND, 1, 0xffff), OP_K(BPF_RSH, 8, 16),
        LOAD(BPF_DW, 4, 9, FIELD(ip_sum)), OP(BPF_ADD, 4, 1), FOLD(4, 5),
        TO_BE16(4), STORE(BPF_H, 6, IP + 10, 4),
        LOAD(BPF_DW, 4, 9, FIELD(udp_sum)), OP(BPF_ADD, 4, 1), OP(BPF_ADD, 4, 8), FOLD(4, 5),
        IF_K(BPF_JNE, 4, 0, 1), SET(4, 0xffff),
        TO_BE16(4), STORE(BPF_H, 6, UDP + 6, 4),
        TO_BE16(1), STORE(BPF_H, 6, IP + 14, 1),
        OP_K(BPF_ADD, 8, 1024), TO_BE16(8), STORE(BPF_H, 6, UDP, 8),
        SET(0, XDP_TX), EXIT);
    return load_program(code, count);
}

/* Drops everything; ends with this process. */
static void drop_all(unsigned device) {
    const struct bpf_insn code[] = {SET(0, XDP_DROP), EXIT};
    union bpf_attr attr = {.link_create = {.prog_fd = (uint32_t)load_program(code, 2), .target_ifindex = device,
                                           .attach_type = BPF_XDP, .flags = 1u << 2 /* in the driver */}};
    if (bpf(BPF_LINK_CREATE, &attr) < 0) die("attach the sink");
}

/* ---- load ---- */

static const char *device_name;
static unsigned device;
static int program, map;
static struct state *state;
static int pids_len;
static char **pids;

static int make_map(void) {
    union bpf_attr attr = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = sizeof(struct state), .max_entries = 1,
                           .map_flags = BPF_F_MMAPABLE};
    int fd = bpf(BPF_MAP_CREATE, &attr);
    if (fd < 0) die("make a map");
    return fd;
}

static struct state *mmap_state(int fd) {
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) die("map the generator's state");
    return at;
}

/* A process that offers this many frames, unless it is ended first. One call makes them all: beginning one takes milliseconds.
 * They go in bursts, as a card hands them over. The kernel keeps the memory of one burst to be used again: with bursts of 32 the
 * balancer's core freed pages most of the time, with 256 they fill the wire's ring. */
static pid_t offer(uint32_t frames) {
    uint8_t frame[FRAME];
    struct xdp_md context = {.data_end = FRAME, .ingress_ifindex = device};
    union bpf_attr attr = {.test = {.prog_fd = (uint32_t)program, .data_in = (uintptr_t)frame, .data_size_in = FRAME,
                                    .ctx_in = (uintptr_t)&context, .ctx_size_in = sizeof context, .repeat = frames,
                                    .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = BURST}};
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child > 0) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    make(frame, 0);
    if (bpf(BPF_PROG_TEST_RUN, &attr) < 0) die("run the generator");
    _exit(0);
}

static void sleep_ms(uint32_t ms) {
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

static uint64_t read_number(const char *path, int field) {
    char text[256] = "", *at = text;
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (!fgets(text, sizeof text, file)) text[0] = 0;
    fclose(file);
    while (field-- > 0 && (at = strchr(at, ' '))) at++;
    return at ? strtoull(at, NULL, 10) : 0;
}

static uint64_t delivered(void) {
    char path[128];
    snprintf(path, sizeof path, "/sys/class/net/%s/statistics/rx_packets", device_name);
    return read_number(path, 0);
}

/* Time on a core of every thread of every process. */
static uint64_t cpu_ns(void) {
    uint64_t total = 0;
    for (int i = 0; i < pids_len; i++) {
        char path[600];
        snprintf(path, sizeof path, "/proc/%s/task", pids[i]);
        DIR *tasks = opendir(path);
        if (!tasks) errno = 0, die("a process that is measured has ended");
        for (struct dirent *task; (task = readdir(tasks));) {
            if (task->d_name[0] == '.') continue;
            snprintf(path, sizeof path, "/proc/%s/task/%s/schedstat", pids[i], task->d_name);
            total += read_number(path, 0);
        }
        closedir(tasks);
    }
    return total;
}

/* Core 0 when it is not idle, in ticks of 10 ms: what the threads' own time must agree with on a quiet machine. */
static uint64_t busy_ns(void) {
    char text[512];
    unsigned long long user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, soft = 0, steal = 0;
    FILE *file = fopen("/proc/stat", "r");
    while (file && fgets(text, sizeof text, file))
        if (sscanf(text, "cpu0 %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &wait, &irq, &soft, &steal) == 8)
            break;
    if (file) fclose(file);
    return (user + nice + system + irq + soft + steal) * 10000000ull;
}

struct step {
    double offered, delivered; /* a second */
    double cpu_ns, busy_ns;    /* a delivered packet */
};

/* `rate` 0: as fast as it goes. */
static struct step step(double rate, uint32_t ms) {
    if (ms > LONGEST_MS) ms = LONGEST_MS;
    double most = (rate > 0 ? rate : 10e6) * (ms + SETTLE_MS) / 1000 * 2;
    state->gap_ns = rate > 0 ? (uint64_t)(1e9 / rate) : 0, state->due = now_ns();
    pid_t child = offer(most < 4e9 ? (uint32_t)most : 4000000000u);
    sleep_ms(SETTLE_MS);
    uint64_t began = now_ns(), offered0 = state->offered, delivered0 = delivered(), cpu0 = cpu_ns(), busy0 = busy_ns();
    sleep_ms(ms);
    uint64_t took = now_ns() - began, offered = state->offered - offered0, came = delivered() - delivered0;
    uint64_t cpu = cpu_ns() - cpu0, busy = busy_ns() - busy0;
    int status;
    if (waitpid(child, &status, WNOHANG) != 0) errno = 0, die("the generator ended by itself");
    kill(child, SIGKILL), waitpid(child, &status, 0);
    double per = came ? 1.0 / (double)came : 0;
    return (struct step){.offered = (double)offered * 1e9 / (double)took, .delivered = (double)came * 1e9 / (double)took,
                         .cpu_ns = (double)cpu * per, .busy_ns = (double)busy * per};
}

static void show(const char *name, struct step s) {
    printf("%s %.0f %.0f %.1f %.1f\n", name, s.offered, s.delivered, s.cpu_ns, s.busy_ns);
    fflush(stdout);
}

static int load(uint32_t flows, uint32_t step_ms, uint32_t final_ms, double fixed) {
    map = make_map(), program = generator(map);
    state = mmap_state(map);
    state->flows = flows;
    uint8_t frame[FRAME];
    make(frame, 0);
    /* Of everything but the 16 bits of address and what the port differs by, which is zero in flow 0. */
    state->ip_sum = (uint16_t)~get16(frame + IP + 10), state->udp_sum = (uint16_t)~get16(frame + UDP + 6);
    drop_all(device);
    /* Samples are taken when they are due, whatever the generator does on this core. */
    struct sched_param before_it = {.sched_priority = 2};
    if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &before_it) < 0) die("go before the generator");

    show("fixed", step(fixed, final_ms / 2));
    struct step best = {0};
    double best_rate = 0;
    for (double rate = 150000; rate < 8e6; rate *= 1.2) {
        struct step s = step(rate, step_ms);
        /* A machine that lost its core for a moment has not found its limit. */
        if (s.offered < 0.8 * rate) show("held", s), s = step(rate, step_ms);
        show("step", s);
        if (s.delivered > best.delivered) best = s, best_rate = rate;
        if (s.offered > 1.4 * best.delivered || s.offered < 0.8 * rate) break;
    }
    double middle = best_rate;
    for (double part = 0.88; part < 1.16; part += 0.04) {
        struct step s = step(middle * part, step_ms);
        show("step", s);
        if (s.delivered > best.delivered) best = s, best_rate = middle * part;
    }
    show("flood", step(0, step_ms));
    show("most", step(best_rate, final_ms));
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "check") == 0) {
        long flows = atol(argv[4]);
        device = if_nametoindex(argv[2]);
        if (!device) die(argv[2]);
        if (flows >= 1 && flows <= FLOWS) return check(device, argv[3], (uint32_t)flows);
    }
    if (argc >= 8 && strcmp(argv[1], "load") == 0) {
        long flows = atol(argv[3]);
        device_name = argv[2], device = if_nametoindex(argv[2]);
        if (!device) die(argv[2]);
        pids_len = argc - 7, pids = argv + 7;
        if (flows >= 1 && flows <= FLOWS) return load((uint32_t)flows, (uint32_t)atol(argv[4]), (uint32_t)atol(argv[5]), atof(argv[6]));
    }
    fprintf(stderr, "packets check DEVICE MODE FLOWS | packets load DEVICE FLOWS STEP_MS FINAL_MS FIXED_PER_SECOND PID...\n");
    return 2;
}
