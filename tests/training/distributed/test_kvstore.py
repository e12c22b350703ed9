"""Sums and means over devices and workers, and broadcasts."""

import os
import socket

import numpy as np
import pytest

import symbols
from agedge.errors import AgedgeError, UsageError
from agedge.training.distributed import cluster, roles
from agedge.training.distributed.kvstore import KVStore, open_kvstore

mx = pytest.importorskip("mxnet")

CLUSTER = {
    "DMLC_ROLE": "worker",
    "DMLC_PS_ROOT_URI": "127.0.0.1",
    "DMLC_PS_ROOT_PORT": "9000",
    "DMLC_NUM_WORKER": "2",
    "DMLC_NUM_SERVER": "1",
}
TWO = [mx.cpu(0), mx.cpu(1)]


@pytest.fixture
def two():
    store = open_kvstore("device", TWO)
    yield store
    store.close()


@pytest.fixture
def environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("DMLC_", "PS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MXNET_KVSTORE_BIGARRAY_BOUND", "1000000")
    for name in roles.SECONDS:  # what is set meanwhile goes with the test
        monkeypatch.setenv(name, "7")
    for name, value in CLUSTER.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def some_arrays():
    """For three parameters and two contexts, other numbers each."""
    rng = np.random.default_rng(5)
    shapes = [(3, 4), (7,), (2, 3, 3, 3)]
    return [[mx.nd.array(rng.normal(size=shape), ctx=context) for context in TWO] for shape in shapes]


def as_numbers(arrays):
    return [[array.asnumpy() for array in values] for values in arrays]


def test_gradients_are_added_in_place_and_everybody_has_the_sum(two):
    gradients = some_arrays()
    for _ in range(2):  # the second time by what was kept of the first
        before = as_numbers(gradients)
        two.sum_gradients(gradients)
        for (one, other), after in zip(before, as_numbers(gradients)):
            assert after[0].shape == one.shape and after[0].dtype == one.dtype
            np.testing.assert_array_equal(after[0], one + other)
            np.testing.assert_array_equal(after[1], one + other)


def test_other_arrays_than_before_are_summed_too(two):
    two.sum_gradients(some_arrays())
    gradients = some_arrays()[1:]
    before = as_numbers(gradients)
    two.sum_gradients(gradients)
    for (one, other), after in zip(before, as_numbers(gradients)):
        np.testing.assert_array_equal(after[0], one + other)


def test_statistics_are_averaged_and_values_taken_from_the_first(two):
    arrays = some_arrays()
    before = as_numbers(arrays)
    two.mean(arrays)
    for (one, other), after in zip(before, as_numbers(arrays)):
        np.testing.assert_allclose(after, [(one + other) / 2] * 2, rtol=1e-6)
    arrays = some_arrays()
    two.broadcast(arrays)
    for (one, _), after in zip(before, as_numbers(arrays)):
        np.testing.assert_array_equal(after, [one, one])


@pytest.mark.parametrize("fused", [False, True])
def test_a_networks_own_weights_and_gradients(two, fused):
    """After a look by the network, MXNet keeps the weights of convolutions in a layout of its own: of these, views
    are wrong. Gradients are taken by views."""
    from mxnet import autograd

    network = symbols.create("mobilenet025", size=32)
    network.initialize_for_training(TWO)
    images = [mx.nd.random.uniform(0, 255, (4, 3, 32, 32), ctx=context) for context in TWO]
    network(images[0])
    network.fuse(fused)
    parameters = list(network.collect_params().values())
    learnt = [parameter for parameter in parameters if parameter.grad_req != "null"]
    for parameter in learnt:
        first, second = parameter.list_data()
        second[:] = first + 1
    network.hybridize(static_alloc=True)
    for step in range(3):
        for share in images:
            network(share)
        if step == 0:
            before = [parameter.list_data()[0].asnumpy() for parameter in parameters]
            two.broadcast([parameter.list_data() for parameter in parameters])
            for value, parameter in zip(before, parameters):
                for array in parameter.list_data():
                    np.testing.assert_array_equal(array.asnumpy(), value)
        with autograd.record():
            said = [network(share) for share in images]
            losses = [sum((value**2).mean() for value in values) for values in said]
        autograd.backward(losses)
        gradients = [parameter.list_grad() for parameter in learnt]
        before = as_numbers(gradients)
        assert any(np.abs(one - other).max() > 0 for one, other in before)
        two.sum_gradients(gradients)
        for (one, other), after in zip(before, as_numbers(gradients)):
            np.testing.assert_array_equal(after, [one + other] * 2)


def test_one_device_sends_nothing():
    store = open_kvstore("device", [mx.cpu()])
    array = mx.nd.array([1.0, 2.0])
    store.broadcast([[array]]), store.sum_gradients([[array]]), store.mean([[array]]), store.barrier()
    assert array.asnumpy().tolist() == [1, 2] and store.sum_small(np.array([3.0])).tolist() == [3]
    assert store.is_chief and (store.rank, store.workers) == (0, 1) and isinstance(store, KVStore)
    store.close()


def test_the_environment_of_a_cluster_is_checked(environment):
    assert roles.find_role("dist_sync") == "worker"
    environment.setenv("DMLC_ROLE", "scheduler")
    assert roles.find_role("dist_device_sync") == "scheduler"
    with pytest.raises(UsageError, match="DMLC_ROLE=scheduler: only with --kvstore dist_sync"):
        roles.find_role("device")
    environment.setenv("DMLC_ROLE", "leader")
    with pytest.raises(UsageError, match="DMLC_ROLE=leader: must be one of worker, server, scheduler"):
        roles.find_role("dist_sync")
    environment.setenv("DMLC_ROLE", "worker")
    for name in ("DMLC_NUM_WORKER", "DMLC_PS_ROOT_PORT", "PS_HEARTBEAT_TIMEOUT"):
        former = os.environ[name]
        for wrong in ("two", "0", "-1", "1.5"):
            environment.setenv(name, wrong)
            with pytest.raises(UsageError, match=f"{name}={wrong}: "):
                roles.find_role("dist_sync")
        environment.setenv(name, former)
    environment.delenv("DMLC_PS_ROOT_URI"), environment.delenv("DMLC_NUM_SERVER")
    with pytest.raises(UsageError, match="DMLC_PS_ROOT_URI, DMLC_NUM_SERVER not set"):
        roles.find_role("dist_sync")


def test_the_heartbeat_interval_has_a_default(environment):
    environment.delenv("PS_HEARTBEAT_INTERVAL")
    roles.find_role("dist_sync")
    assert os.environ["PS_HEARTBEAT_INTERVAL"] == "2" and os.environ["PS_HEARTBEAT_TIMEOUT"] == "7"


def test_a_scheduler_with_a_name_listens_everywhere(environment):
    environment.setenv("DMLC_USE_KUBERNETES", "")
    for address, expected in (("10.0.0.1", None), ("node1.cluster", "1")):
        os.environ.pop("DMLC_USE_KUBERNETES", None)
        environment.setenv("DMLC_PS_ROOT_URI", address)
        roles.find_role("dist_sync")
        assert os.environ.get("DMLC_USE_KUBERNETES") == expected


def test_an_absent_scheduler_is_named_by_its_address(environment):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # no other process can listen there
        port = taken.getsockname()[1]
        environment.setenv("DMLC_PS_ROOT_PORT", str(port))
        with pytest.raises(AgedgeError, match=f"127.0.0.1:{port}: no scheduler found in 0.2 s"):
            cluster.find_scheduler(0.2)
        taken.listen()
        cluster.find_scheduler(5)
