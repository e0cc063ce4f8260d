"""Who the containers are: what a cgroup's path says of them, what the runtimes' files say, whose they are."""
