"""The import path of the storage in dagster.yaml. Copies of that file in users' home folders name this module."""

from rag_assets.dagster_internals import StackPostgresStorage as StackPostgresStorage
