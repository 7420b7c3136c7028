"""The store on Apache Cassandra (or ScyllaDB): for graphs that one machine does not hold."""
