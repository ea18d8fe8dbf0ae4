/*
 * A load generator for KRPC servers on loopback: closed loop, one thread.
 *
 *   load PORT CORE WINDOW SECONDS ACCEPT MIN_BYTES PACKETS
 *
 * It keeps WINDOW queries open at 127.0.0.1:PORT and sends the next one when a
 * valid reply has come: with the transaction id of an open query, of the kind
 * ACCEPT ("r": responses, "*": also errors) and at least MIN_BYTES long.  With
 * SECONDS > 0 it goes round the packets for that long, with 0 it sends each one
 * once.  It spins instead of sleeping, so that the server never pays for waking
 * it.  What the server asks us is answered as a ping.
 *
 * PACKETS is a file: for each packet its length and the position of its 4-byte
 * transaction id, both 16 bits little-endian, then the packet.
 *
 * It prints one line of JSON: answered, refused (errors, or too short), lost
 * (no reply within LOST_AFTER), seconds, and the nanoseconds that it waited
 * for its core.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define MAX_WINDOW 1024
#define MAX_DATAGRAM 16384 /* bittorrent-dht tells of all nodes that it knows */
#define BATCH 64
#define LOST_AFTER 1.0

struct packet { const unsigned char *bytes; uint16_t size, id; };
struct slot { uint16_t generation; uint8_t open; double sent; };

static struct packet *packets;
static size_t packet_count;
static struct slot slots[MAX_WINDOW];
static unsigned char ids[MAX_WINDOW][4];
static unsigned char received[BATCH][MAX_DATAGRAM];
static unsigned char own_id[20];

static void die(const char *what) { perror(what); exit(1); }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static long long waited(void) {
    long long ran = 0, wait = 0;
    FILE *file = fopen("/proc/self/schedstat", "r");
    if (file) {
        if (fscanf(file, "%lld %lld", &ran, &wait) != 2) wait = 0;
        fclose(file);
    }
    return wait;
}

static void read_packets(const char *name) {
    FILE *file = fopen(name, "rb");
    if (!file) die(name);
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file), room = 0;
    rewind(file);
    unsigned char *all = malloc(size);
    if (!all || fread(all, 1, size, file) != size) die("packets");
    fclose(file);
    for (size_t at = 0; at + 4 <= size;) {
        if (packet_count == room) packets = realloc(packets, (room = room ? 2 * room : 256) * sizeof *packets);
        if (!packets) die("packets");
        struct packet *packet = &packets[packet_count++];
        packet->size = all[at] | all[at + 1] << 8;
        packet->id = all[at + 2] | all[at + 3] << 8;
        packet->bytes = all + at + 4;
        at += 4 + packet->size;
        if (at > size || packet->id + 4 > packet->size) { fprintf(stderr, "bad packets\n"); exit(1); }
    }
    unsigned char *id = packet_count ? memmem(packets[0].bytes, packets[0].size, "2:id20:", 7) : NULL;
    if (!id) { fprintf(stderr, "no packets\n"); exit(1); }
    memcpy(own_id, id + 7, 20);
}

/* The transaction id in a message, which is its last "1:t"; its size, or 0. */
static size_t transaction(const unsigned char *message, size_t size, const unsigned char **id) {
    for (size_t at = size; at-- > 3;) {
        if (memcmp(message + at - 3, "1:t", 3)) continue;
        char *end;
        unsigned long length = strtoul((const char *)message + at, &end, 10);
        if (*end != ':' || length > 32 || (const unsigned char *)end + 1 + length > message + size) continue;
        *id = (const unsigned char *)end + 1;
        return length;
    }
    return 0;
}

static void pong(int fd, const unsigned char *id, size_t size) {
    char reply[128];
    int head = sprintf(reply, "d1:rd2:id20:");
    memcpy(reply + head, own_id, 20);
    head += 20;
    head += sprintf(reply + head, "e1:t%zu:", size);
    memcpy(reply + head, id, size);
    head += (int)size;
    head += sprintf(reply + head, "1:y1:re");
    send(fd, reply, (size_t)head, 0);
}

int main(int argc, char **argv) {
    if (argc != 8) { fprintf(stderr, "see load.c\n"); return 2; }
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(atoi(argv[2]), &cores);
    if (sched_setaffinity(0, sizeof cores, &cores)) die("core");
    unsigned window = (unsigned)atoi(argv[3]);
    double seconds = atof(argv[4]);
    int errors_too = argv[5][0] == '*';
    size_t min_bytes = (size_t)atol(argv[6]);
    read_packets(argv[7]);
    if (window < 1 || window > MAX_WINDOW) { fprintf(stderr, "bad window\n"); return 2; }

    int fd = socket(AF_INET, SOCK_DGRAM, 0), room = 4 << 20;
    if (fd < 0 || connect(fd, (struct sockaddr *)&server, sizeof server)) die("socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);

    struct mmsghdr out[BATCH], in[BATCH];
    struct iovec parts[BATCH][3], into[BATCH];
    memset(out, 0, sizeof out);
    memset(in, 0, sizeof in);
    for (int i = 0; i < BATCH; i++) {
        out[i].msg_hdr.msg_iov = parts[i];
        out[i].msg_hdr.msg_iovlen = 3;
        into[i].iov_base = received[i];
        into[i].iov_len = MAX_DATAGRAM - 1;
        in[i].msg_hdr.msg_iov = &into[i];
        in[i].msg_hdr.msg_iovlen = 1;
    }

    unsigned free_slots[MAX_WINDOW], free_count = window;
    for (unsigned i = 0; i < window; i++) free_slots[i] = i;
    long long answered = 0, refused = 0, lost = 0, wait = waited();
    size_t next = 0;
    double started = now(), time = started, swept = started;
    for (;;) {
        int more = seconds > 0 ? time - started < seconds : next < packet_count;
        unsigned count = 0;
        for (; more && count < BATCH && free_count; count++) {
            if (seconds <= 0 && next == packet_count) break;
            const struct packet *packet = &packets[next++ % packet_count];
            unsigned slot = free_slots[--free_count];
            slots[slot].open = 1;
            slots[slot].sent = time;
            uint16_t generation = ++slots[slot].generation;
            unsigned char *id = ids[slot];
            id[0] = slot & 255; id[1] = slot >> 8; id[2] = generation & 255; id[3] = generation >> 8;
            parts[count][0] = (struct iovec){(void *)packet->bytes, packet->id};
            parts[count][1] = (struct iovec){id, 4};
            parts[count][2] = (struct iovec){(void *)(packet->bytes + packet->id + 4), packet->size - packet->id - 4u};
        }
        for (unsigned sent = 0; sent < count;) {
            int done = sendmmsg(fd, out + sent, count - sent, 0);
            if (done < 0 && errno != EAGAIN && errno != ENOBUFS) die("send");
            if (done > 0) sent += (unsigned)done;
        }
        if (!more && (free_count == window || seconds > 0)) break;

        int got = recvmmsg(fd, in, BATCH, MSG_DONTWAIT, NULL);
        if (got < 0 && errno != EAGAIN) die("receive");
        time = now();
        for (int i = 0; i < got; i++) {
            unsigned char *message = received[i];
            size_t size = in[i].msg_len;
            message[size] = 0;
            const unsigned char *id;
            size_t length = transaction(message, size, &id);
            if (!length) continue;
            if (memmem(id + length, (size_t)(message + size - id - length), "1:y1:q", 6)) {
                pong(fd, id, length);
                continue;
            }
            unsigned slot = length == 4 ? (unsigned)(id[0] | id[1] << 8) : window;
            if (slot >= window || !slots[slot].open || memcmp(id, ids[slot], 4)) continue;
            int response = memmem(id + length, (size_t)(message + size - id - length), "1:y1:r", 6) != NULL;
            if ((response || errors_too) && size >= min_bytes) answered++; else refused++;
            slots[slot].open = 0;
            free_slots[free_count++] = slot;
        }
        if (time - swept > LOST_AFTER / 4) {
            swept = time;
            for (unsigned slot = 0; slot < window; slot++)
                if (slots[slot].open && time - slots[slot].sent > LOST_AFTER) {
                    slots[slot].open = 0;
                    free_slots[free_count++] = slot;
                    lost++;
                }
        }
    }
    printf("{\"answered\": %lld, \"refused\": %lld, \"lost\": %lld, \"seconds\": %.6f, \"waited\": %lld}\n",
           answered, refused, lost, now() - started, waited() - wait);
    return 0;
}
