#include "mailbox.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct pm_mailbox {
	pthread_mutex_t lock;
	int event;
	pm_ticket *first, *last;
};

pm_mailbox *pm_mailbox_new(void)
{
	pm_mailbox *mailbox = calloc(1, sizeof(*mailbox));

	if (mailbox == NULL)
		return NULL;
	mailbox->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (mailbox->event < 0) {
		free(mailbox);
		return NULL;
	}
	pthread_mutex_init(&mailbox->lock, NULL);
	return mailbox;
}

void pm_mailbox_free(pm_mailbox *mailbox)
{
	if (mailbox == NULL)
		return;
	close(mailbox->event);
	pthread_mutex_destroy(&mailbox->lock);
	free(mailbox);
}

int pm_mailbox_event(const pm_mailbox *mailbox)
{
	return mailbox->event;
}

pm_ticket *pm_mailbox_take(pm_mailbox *mailbox)
{
	pm_ticket *ticket;
	uint64_t count;

	pthread_mutex_lock(&mailbox->lock);
	ticket = mailbox->first;
	if (ticket) {
		mailbox->first = ticket->next;
		if (mailbox->first == NULL) {
			mailbox->last = NULL;
			if (read(mailbox->event, &count, sizeof(count)) < 0) {
				/* already cleared */
			}
		}
	}
	pthread_mutex_unlock(&mailbox->lock);
	return ticket;
}

void pm_mailbox_deliver(pm_ticket *first, pm_ticket *last)
{
	pm_mailbox *mailbox = first->mailbox;
	const uint64_t one = 1;

	pthread_mutex_lock(&mailbox->lock);
	if (mailbox->last)
		mailbox->last->next = first;
	else
		mailbox->first = first;
	mailbox->last = last;
	if (mailbox->first == first && write(mailbox->event, &one, sizeof(one)) < 0) {
		/* only EAGAIN is possible: the counter is full, so the event is already set */
	}
	pthread_mutex_unlock(&mailbox->lock);
}
