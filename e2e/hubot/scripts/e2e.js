// What the bot of hubot.test.mjs answers.
module.exports = (robot) => {
  robot.respond(/ping (\S+)/i, (res) => res.send(`pong ${res.match[1]}`));
  robot.respond(/reply (\S+)/i, (res) => res.reply(`replied ${res.match[1]}`));
  robot.respond(/how many users/i, (res) => res.send(`users: ${Object.keys(robot.brain.users()).length}`));
  robot.respond(/who am i (\S+)/i, (res) => res.send(`you are ${res.message.user.name} ${res.match[1]}`));
  robot.respond(/set topic (\S+)/i, (res) => robot.adapter.setTopic(res.envelope, `topic ${res.match[1]}`));
  robot.topic((res) => res.send(`heard ${res.message.text}`));
  robot.enter((res) => res.send(`welcome ${res.message.user.id}`));
  robot.leave((res) => res.send(`goodbye ${res.message.user.id}`));
  robot.hearReaction((res) => res.send(`${res.message.type} ${res.message.reaction} by ${res.message.user.id}`));
};
