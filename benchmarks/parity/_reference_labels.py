"""Labels as nnU-Net treats them, run in its environment: ``python _reference_labels.py IN.npz OUT.npz``.

For each data set in ``dataset.json`` form: heads, training target, locations of patches, decided labels and Dice.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from batchgeneratorsv2.transforms.utils.seg_to_regions import ConvertSegmentationToRegionsTransform
from nnunetv2.evaluation.evaluate_predictions import compute_tp_fp_fn_tn, region_or_label_to_mask
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.label_handling.label_handling import LabelManager, convert_labelmap_to_one_hot

given = np.load(sys.argv[1])
results = {}
for name, content in json.loads(str(given["data_sets"])).items():
    manager = LabelManager(content["labels"], content.get("regions_class_order"))
    labels, logits = given[f"{name}.labels"], given[f"{name}.logits"]
    decided = np.asarray(manager.convert_logits_to_segmentation(logits))
    results[f"{name}.heads"] = np.array(manager.num_segmentation_heads)
    results[f"{name}.decided"] = decided
    annotated = labels != manager.ignore_label if manager.has_ignore_label else np.ones_like(labels, bool)
    if manager.has_regions:
        to_regions = ConvertSegmentationToRegionsTransform(manager.foreground_regions)
        target = to_regions._apply_to_segmentation(torch.from_numpy(labels[None].astype(np.int16)))
        results[f"{name}.target"] = target.numpy()
    else:
        results[f"{name}.target"] = convert_labelmap_to_one_hot(labels, manager.all_labels)
    members = manager.foreground_regions if manager.has_regions else manager.foreground_labels
    dice = []
    for one in members:
        masks = [region_or_label_to_mask(array, one) for array in (labels, decided)]
        true, false, missed, _ = compute_tp_fp_fn_tn(*masks, None if annotated.all() else ~annotated)
        dice.append(2 * true / (2 * true + false + missed))
    results[f"{name}.dice"] = np.array(dice)
    keys = [tuple(one) if isinstance(one, list | tuple) else int(one) for one in members]
    everything = (-1, *map(int, manager.all_labels))
    wanted = [*keys, everything] if manager.has_ignore_label else keys
    found = DefaultPreprocessor._sample_foreground_locations(labels[None], wanted)
    for number, key in enumerate(keys, 1):
        results[f"{name}.locations.{number}"] = np.array(found[key])[:, 1:]
    if manager.has_ignore_label:
        results[f"{name}.locations.0"] = np.array(found[everything])[:, 1:]
np.savez(sys.argv[2], **results)
