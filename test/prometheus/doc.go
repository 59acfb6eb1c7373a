// Package prometheus runs Debian's Prometheus in tests, and asks it all that
// scripts/grafana.json and scripts/alerts.yaml ask: an expression that brings
// nothing is a panel that stays empty, or an alert that never fires.
package prometheus
