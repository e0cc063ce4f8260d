"""A container runtime on a Unix socket that answers in CRI, by the gRPC library that is written in C++."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc

from tests.protobuf_schema import compiled

SERVICE = "runtime.v1.RuntimeService"
STOPPED = 2


def schema() -> ModuleType:
    """The module that is made of cri.proto."""
    return compiled(Path(__file__).parent / "cri.proto")


class CriDouble:
    """Answers what pymon asks.

    containers: statuses by id. sandboxes: the same of pods. asked: names of the methods. hang: wait with each answer
    until `close`. errors: gRPC status by name of a method.
    """

    def __init__(self, path: Path, name: str = "containerd", release: str = "1.7.2") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.name, self.release = name, release
        self.containers: dict[str, Any] = {}
        self.sandboxes: dict[str, Any] = {}
        self.asked: list[str] = []
        self.hang = False
        self.errors: dict[str, grpc.StatusCode] = {}
        self.streams: list[queue.SimpleQueue[Any]] = []
        self._closing = threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(16))
        pb = schema()
        requests = {
            "Version": pb.VersionRequest,
            "ListContainers": pb.ListContainersRequest,
            "ListPodSandbox": pb.ListPodSandboxRequest,
            "ContainerStatus": pb.ContainerStatusRequest,
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._answering(name), request.FromString, _bytes)
            for name, request in requests.items()
        }
        handlers["GetContainerEvents"] = grpc.unary_stream_rpc_method_handler(
            self._events, pb.GetEventsRequest.FromString, _bytes
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        # The path of a test's directory may be too long for a socket's address.
        directory = os.open(path.parent, os.O_PATH)
        self._server.add_insecure_port(f"unix:/proc/self/fd/{directory}/{path.name}")
        os.close(directory)
        self._server.start()

    def container(self, identifier: str, **fields: Any) -> Any:
        """Add a container that runs, with other fields on request."""
        pb = schema()
        metadata = pb.ContainerMetadata(name=fields.pop("name", "web"), attempt=fields.pop("attempt", 0))
        fields = {"state": 1, "created_at": 10**18, "started_at": 1_793_170_802 * 10**9} | fields
        status = self.containers[identifier] = pb.ContainerStatus(id=identifier, metadata=metadata, **fields)
        return status

    def tell(self, identifier: str, kind: int = STOPPED) -> None:
        """Send an event to all who listen."""
        self.send(schema().ContainerEventResponse(container_id=identifier, container_event_type=kind))

    def send(self, message: Any) -> None:
        """Send a message, or bytes in its place, to all who listen to events."""
        for stream in self.streams:
            stream.put(message)

    def close(self) -> None:
        """End, and remove the socket."""
        self._closing.set()
        for stream in self.streams:
            stream.put(None)
        self._server.stop(None).wait()
        self.path.unlink(missing_ok=True)

    def _answering(self, name: str) -> Any:
        answers = {
            "Version": self._version,
            "ListContainers": self._list,
            "ListPodSandbox": self._sandbox,
            "ContainerStatus": self._status,
        }

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            self.asked.append(name)
            if self.hang:
                self._closing.wait()
            if name in self.errors:
                context.abort(self.errors[name], "not here")
            return answers[name](request, context)

        return answer

    def _version(self, request: Any, context: grpc.ServicerContext) -> Any:
        return schema().VersionResponse(version="0.1.0", runtime_name=self.name, runtime_version=self.release)

    def _list(self, request: Any, context: grpc.ServicerContext) -> Any:
        pb = schema()
        response = pb.ListContainersResponse()
        for status in list(self.containers.values()):
            response.containers.add(
                id=status.id,
                metadata=status.metadata,
                image=status.image,
                state=status.state,
                created_at=status.created_at,
                labels=status.labels,
                annotations=status.annotations,
            )
        return response

    def _sandbox(self, request: Any, context: grpc.ServicerContext) -> Any:
        found = self.sandboxes.get(request.filter.id)
        return schema().ListPodSandboxResponse(items=[found] if found is not None else [])

    def _status(self, request: Any, context: grpc.ServicerContext) -> Any:
        found = self.containers.get(request.container_id)
        if found is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such container")
        return found if isinstance(found, bytes) else schema().ContainerStatusResponse(status=found)

    def _events(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self.asked.append("GetContainerEvents")
        if "GetContainerEvents" in self.errors:
            context.abort(self.errors["GetContainerEvents"], "not here")
        stream: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.streams.append(stream)
        context.add_callback(lambda: stream.put(None))
        while (message := stream.get()) is not None:
            yield message
        self.streams.remove(stream)


def _bytes(message: Any) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


@contextlib.contextmanager
def cri_double(path: Path, name: str = "containerd", release: str = "1.7.2") -> Iterator[CriDouble]:
    """A runtime that listens at a path."""
    double = CriDouble(path, name, release)
    try:
        yield double
    finally:
        double.close()
