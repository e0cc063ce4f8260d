#include "cputime.h"

void pm_cputime_adjust(const pm_cputime *counted, pm_cputime_shown *shown)
{
	uint64_t system = counted->system, user;

	if (shown->user + shown->system >= counted->run)
		return;
	if (counted->system == 0)
		system = 0;
	else if (counted->user == 0)
		system = counted->run;
	else
		system = (uint64_t)((unsigned __int128)counted->system * counted->run /
				    ((unsigned __int128)counted->system + counted->user));
	if (system > counted->run)
		system = counted->run;
	if (system < shown->system)
		system = shown->system;
	user = counted->run - system;
	if (user < shown->user) {
		user = shown->user;
		system = counted->run - user;
	}
	shown->user = user;
	shown->system = system;
}
