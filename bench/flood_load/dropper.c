/* The least that a program on a netfilter queue can do: it reads packets, several a system call, and
 * gives each the same verdict, without looking at it. What Postern's verdicts are measured beside. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { kBatch = 64, kMessageOctets = 1024, kCopyOctets = 512, kQueueLength = 8192 };
static const int kReceiveBufferOctets = 8 * 1024 * 1024; /* as Postern's */

struct verdict {
  struct mnl_socket* socket;
  uint16_t queue;
  int verdict;
};

static void send_message(struct mnl_socket* socket, const struct nlmsghdr* message) {
  if (mnl_socket_sendto(socket, message, message->nlmsg_len) < 0) {
    perror("dropper: sendto");
    exit(1);
  }
}

static int judge(const struct nlmsghdr* message, void* data) {
  const struct verdict* with = data;
  struct nlattr* attributes[NFQA_MAX + 1] = {0};
  if (nfq_nlmsg_parse(message, attributes) < 0 || !attributes[NFQA_PACKET_HDR]) {
    return MNL_CB_ERROR;
  }
  const struct nfqnl_msg_packet_hdr* header = mnl_attr_get_payload(attributes[NFQA_PACKET_HDR]);
  char buffer[256];
  struct nlmsghdr* answer = nfq_nlmsg_put(buffer, NFQNL_MSG_VERDICT, with->queue);
  nfq_nlmsg_verdict_put(answer, (int)ntohl(header->packet_id), with->verdict);
  send_message(with->socket, answer);
  return MNL_CB_OK;
}

static void configure(struct mnl_socket* socket, uint16_t queue) {
  char buffer[256];
  struct nlmsghdr* message = nfq_nlmsg_put(buffer, NFQNL_MSG_CONFIG, queue);
  nfq_nlmsg_cfg_put_cmd(message, AF_UNSPEC, NFQNL_CFG_CMD_BIND);
  nfq_nlmsg_cfg_put_qmaxlen(message, kQueueLength);
  mnl_attr_put_u32(message, NFQA_CFG_FLAGS, htonl(NFQA_CFG_F_GSO));
  mnl_attr_put_u32(message, NFQA_CFG_MASK, htonl(NFQA_CFG_F_GSO));
  send_message(socket, message);
  message = nfq_nlmsg_put(buffer, NFQNL_MSG_CONFIG, queue);
  nfq_nlmsg_cfg_put_params(message, NFQNL_COPY_PACKET, kCopyOctets);
  send_message(socket, message);
}

int main(int count, char** arguments) {
  if (count != 3 || (strcmp(arguments[2], "drop") != 0 && strcmp(arguments[2], "accept") != 0)) {
    fputs("usage: dropper QUEUE drop|accept\n", stderr);
    return 2;
  }
  struct verdict with = {.socket = mnl_socket_open(NETLINK_NETFILTER),
                         .queue = (uint16_t)atoi(arguments[1]),
                         .verdict = strcmp(arguments[2], "drop") == 0 ? NF_DROP : NF_ACCEPT};
  if (!with.socket || mnl_socket_bind(with.socket, 0, MNL_SOCKET_AUTOPID) < 0) {
    perror("dropper: socket");
    return 1;
  }
  const int fd = mnl_socket_get_fd(with.socket);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBufferOctets, sizeof kReceiveBufferOctets);
  configure(with.socket, with.queue);

  static char buffers[kBatch][kMessageOctets] __attribute__((aligned(8)));
  static struct iovec parts[kBatch];
  static struct mmsghdr messages[kBatch];
  for (int i = 0; i < kBatch; ++i) {
    parts[i] = (struct iovec){.iov_base = buffers[i], .iov_len = kMessageOctets};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  for (;;) {
    const int received = recvmmsg(fd, messages, kBatch, MSG_WAITFORONE, NULL);
    if (received < 0 && errno != ENOBUFS && errno != EINTR) {
      perror("dropper: recvmmsg");
      return 1;
    }
    for (int i = 0; i < received; ++i) {
      mnl_cb_run(buffers[i], messages[i].msg_len, 0, 0, judge, &with);
    }
  }
}
