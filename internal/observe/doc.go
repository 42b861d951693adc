// Package observe writes what watches flannel: Prometheus's recording and alert rules and Grafana's dashboards, in the
// folder deploy. They are text that machines read, with the same expressions many times over (a service level has fifteen
// of them), so they are written from the tables of this package, and tests keep the two the same:
//
//	go test ./internal/observe -update
package observe
