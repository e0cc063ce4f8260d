/* The way of finished work from the readers' threads to the one that asked for it. */
#ifndef PYMON_MAILBOX_H
#define PYMON_MAILBOX_H

#include <stdatomic.h>

/* Where finished tickets wait; `event` is an eventfd that is readable while there are any. */
typedef struct pm_mailbox pm_mailbox;
typedef struct pm_ticket pm_ticket;

pm_mailbox *pm_mailbox_new(void);
void pm_mailbox_free(pm_mailbox *mailbox);
int pm_mailbox_event(const pm_mailbox *mailbox);
/* Take one finished ticket, or NULL. The event is cleared when the last one is taken. */
pm_ticket *pm_mailbox_take(pm_mailbox *mailbox);
/* Hand over finished tickets, linked from `first` to `last`, that share a mailbox. */
void pm_mailbox_deliver(pm_ticket *first, pm_ticket *last);

/* A ticket is done when all jobs that were posted under it are. */
struct pm_ticket {
	atomic_uint pending;
	pm_mailbox *mailbox;
	pm_ticket *next;
	void *owner;
};

#endif
