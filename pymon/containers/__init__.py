"""Identification of containers: from the cgroup's path, from the runtime's files, and by the owner rules."""
