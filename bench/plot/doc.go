// Package plot draws the result of flannel bench as one page of HTML that needs no network: the drawing script is in it
// (echarts.common.min.js, Apache ECharts 5.6.0 as its npm package has it, under LICENSE.echarts).
package plot
