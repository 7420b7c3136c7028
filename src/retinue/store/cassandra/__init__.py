"""The store on Apache Cassandra or ScyllaDB.

It is for graphs that exceed one machine.
"""
