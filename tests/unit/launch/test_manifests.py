"""Every manifest is held strictly against its schema, and against the scripts and configs that it names."""

import copy
import json
import os
from collections.abc import Callable

import pytest

from conf.compose import compose
from data_prep.config import DataPrepConfig
from pretrain.config import PretrainConfig
from tests.unit.launch.manifests import (
    KUBERNETES,
    ROOT,
    Document,
    document,
    documents,
    environment,
    exit_codes,
    job_of_runtime,
    places,
    pod_templates,
)

MANIFESTS = sorted(KUBERNETES.glob("*.yaml"))
# The oldest with successPolicy of Jobs as a stable field, and the newest that is known here.
VERSIONS = ("1.33", "1.37")
FREE_FORM = ("labels", "selector", "requests", "limits")


def kubernetes_accepts(found: Document) -> bool:
    """Whether Kubernetes' own schemas know every field of a core document."""
    validator = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    try:
        for version in VERSIONS:
            validator.validate(found, version, strict=True)
    except validator.ValidationError:
        return False
    return True


def training_operator_accepts(found: Document) -> bool:
    """Whether the training operator's models keep every field: what they do not know, they drop or refuse."""
    training = pytest.importorskip("kubeflow.training", reason="pip install kubeflow-training")
    client = pytest.importorskip("kubeflow.training.api_client", reason="pip install kubeflow-training").ApiClient()

    class Response:
        data = json.dumps(found)

    try:
        model = client.deserialize(Response, training.models.KubeflowOrgV1PyTorchJob)
    except ValueError:
        return False
    return bool(client.sanitize_for_serialization(model) == found)


def trainer_accepts(found: Document) -> bool:
    """Whether Trainer's models keep every field."""
    models = pytest.importorskip("kubeflow_trainer_api.models", reason="pip install kubeflow-trainer-api")
    try:
        model = getattr(models, f"TrainerV1alpha1{found['kind']}").from_dict(copy.deepcopy(found))
    except ValueError:
        return False
    return bool(model.to_dict() == found)


def pod_of(template: Document) -> Document:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": template["spec"]}


def accepted_documents() -> dict[str, tuple[Document, Callable[[Document], bool]]]:
    """Every document of every manifest, and every pod template once more as a pod, with what must accept it."""
    accepting: dict[str, Callable[[Document], bool]] = {
        "PyTorchJob": training_operator_accepts,
        "TrainJob": trainer_accepts,
        "TrainingRuntime": trainer_accepts,
        "Job": kubernetes_accepts,
        "Service": kubernetes_accepts,
    }
    found = {
        f"{path.name} {each['kind']}": (each, accepting[each["kind"]]) for path in MANIFESTS for each in documents(path)
    }
    pods = {f"pod of {kind}": (pod_of(template), kubernetes_accepts) for kind, template in pod_templates().items()}
    return found | pods


@pytest.mark.parametrize(("found", "accepts"), accepted_documents().values(), ids=accepted_documents())
def test_every_field_of_a_manifest_is_known_to_its_schema(found, accepts):
    assert accepts(found)


@pytest.mark.parametrize(("found", "accepts"), accepted_documents().values(), ids=accepted_documents())
def test_an_unknown_field_anywhere_would_be_found(found, accepts):
    """A field that is misspelt is dropped by the API server without a word; here it fails, in whatever place it is."""
    free = {id(place[name]) for place in places(found) for name in FREE_FORM if name in place}
    spots = list(places(found))
    for index in range(0, len(spots), max(1, len(spots) // 12)):  # a dozen places of each document
        if id(spots[index]) in free:
            continue
        altered = copy.deepcopy(found)
        list(places(altered))[index]["noSuchField"] = "value"
        assert not accepts(altered), spots[index]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_is_short(path):
    assert len(path.read_text().splitlines()) <= 80


@pytest.mark.parametrize("kind", ["PyTorchJob", "TrainingRuntime"])
def test_the_grace_time_that_is_checked_is_granted(kind):
    template = pod_templates()[kind]
    checked = int(environment(template)["GRACE_SECONDS"]["value"])
    assert checked < template["spec"]["terminationGracePeriodSeconds"] <= checked + 60


@pytest.mark.parametrize("kind", ["PyTorchJob", "TrainingRuntime", "Job"])
def test_pods_run_as_the_user_of_the_image_with_room_in_shared_memory(kind):
    spec = pod_templates()[kind]["spec"]
    image = (ROOT / "docker" / "Dockerfile").read_text()
    assert f"USER {spec['securityContext']['runAsUser']}:{spec['securityContext']['fsGroup']}\n" in image
    mounts = {mount["mountPath"]: mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
    assert set(mounts.values()) == set(volumes)


@pytest.mark.parametrize("kind", ["PyTorchJob", "TrainingRuntime"])
def test_the_key_of_wandb_comes_from_a_secret(kind):
    key = environment(pod_templates()[kind])["WANDB_API_KEY"]
    assert "value" not in key
    assert key["valueFrom"]["secretKeyRef"]["name"] == "wandb"


def test_exit_codes_mean_to_kubernetes_what_the_script_means_by_them():
    codes = exit_codes()
    # Kubeflow's training operator makes a pod anew from 128 on, and ends the job below.
    assert document("PyTorchJob")["spec"]["pytorchReplicaSpecs"]["Worker"]["restartPolicy"] == "ExitCode"
    assert codes["DONE"] == 0
    assert 0 < codes["REFUSED"] < 128 <= min(codes["FAILED"], codes["STOPPED"])
    actions = {
        value: rule["action"]
        for rule in job_of_runtime(document("TrainingRuntime"))["podFailurePolicy"]["rules"]
        for value in rule.get("onExitCodes", {}).get("values", [])
    }
    assert actions == {codes["REFUSED"]: "FailJob", codes["STOPPED"]: "Ignore"}


def test_what_the_manifests_train_is_a_valid_command_for_their_ranks():
    operator, train_job = document("PyTorchJob")["spec"], document("TrainJob")["spec"]["trainer"]
    worker = operator["pytorchReplicaSpecs"]["Worker"]
    assert worker["replicas"] == operator["elasticPolicy"]["maxReplicas"]
    (container,) = worker["template"]["spec"]["containers"]
    for args, world_size in (
        (container["args"], worker["replicas"] * int(operator["nprocPerNode"])),
        (train_job["args"], train_job["numNodes"] * train_job["numProcPerNode"]),
    ):
        assert (ROOT / args[0]).samefile(ROOT / "launch" / "container.sh")
        config = compose("pretrain", PretrainConfig, args[1:])
        assert config.data.num_streams % world_size == 0  # no rank only waits


def test_gpus_asked_for_are_the_ranks_of_a_pod():
    operator, train_job = document("PyTorchJob")["spec"], document("TrainJob")["spec"]["trainer"]
    templates = pod_templates()
    for kind, ranks in (("PyTorchJob", operator["nprocPerNode"]), ("TrainingRuntime", train_job["numProcPerNode"])):
        resources = templates[kind]["spec"]["containers"][0]["resources"]
        assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == str(ranks)


def test_the_pods_of_data_prep_know_how_many_they_are_and_find_the_first():
    job, service, template = document("Job"), document("Service"), pod_templates()["Job"]
    spec, variables = job["spec"], environment(template)
    assert spec["completions"] == spec["parallelism"] == int(variables["NUM_PODS"]["value"])
    name = job["metadata"]["name"]
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
    assert service["metadata"]["name"] == template["spec"]["subdomain"]
    assert variables["HEAD"]["value"] == f"{name}-0.{service['metadata']['name']}"
    args = template["spec"]["containers"][0]["args"]
    assert os.access(ROOT / args[0], os.X_OK)
    compose("data_prep", DataPrepConfig, args[1:])


def test_pods_use_the_entry_point_of_the_image():
    """`command` would replace it, and a shell or Python as first process ignores SIGTERM."""
    assert 'ENTRYPOINT ["tini", "--"]' in (ROOT / "docker" / "Dockerfile").read_text()
    containers = [template["spec"]["containers"][0] for template in pod_templates().values()]
    assert not [each for each in (*containers, document("TrainJob")["spec"]["trainer"]) if "command" in each]
